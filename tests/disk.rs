//! A disk as a program's system calls leave it, and what of that a power cut leaves.

use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
};

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

use crate::{Place, strace};

/// Of what reached no `fsync`, what a power cut leaves.
#[derive(Clone, Copy, Debug)]
pub enum Left {
    /// All of it: the program alone ended.
    All,
    /// Nothing: neither the bytes of a file nor its name.
    Nothing,
    /// The names, of files that are empty, or as they were.
    Names,
    /// Of each change of a file or a folder, in its order, all or nothing, as chance has it; of the last to a file perhaps a part.
    Some(u64),
}

/// The files below a folder, and the folders, which have no bytes.
pub type Files = BTreeMap<PathBuf, Option<Vec<u8>>>;

type Names = BTreeMap<String, usize>;

/// A file or a folder as the program sees it, as it was when it was last synchronised, and what was done to it since.
enum Node {
    File {
        now: Vec<u8>,
        safe: Vec<u8>,
        since: Vec<Change>,
    },
    Folder {
        now: Names,
        safe: Names,
        since: Vec<Vec<(String, Option<usize>)>>,
    },
}

/// What is done to a file.
enum Change {
    Truncate,
    Write { at: usize, bytes: Vec<u8> },
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Truncate => file.clear(),
            Self::Write { at, bytes } => {
                file.resize(file.len().max(at + bytes.len()), 0);
                file[*at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
    }
}

/// What is done to the names of a folder: a rename within it is one change.
fn rename(names: &mut Names, changes: &[(String, Option<usize>)]) {
    for (name, node) in changes {
        match node {
            Some(node) => names.insert(name.clone(), *node),
            None => names.remove(name),
        };
    }
}

/// A file or a folder that is open.
struct Open {
    node: usize,
    at: usize,
    appends: bool,
    /// How many of the changes since it was last synchronised were done when the synchronisation began that runs.
    syncs: usize,
}

/// A synchronisation is two calls here.
const SYNC_BEGINS: &str = "fsync begins";

/// The disk below one folder, which was empty, and is the working directory of the program.
pub struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    open: BTreeMap<i64, Open>,
}

/// The folder itself.
const ROOT: usize = 0;

impl Disk {
    /// Of the folder `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            nodes: vec![folder()],
            open: BTreeMap::new(),
        }
    }

    /// What is there after a power cut now.
    pub fn after(&self, left: Left) -> Files {
        let mut files = Files::new();
        self.collect(ROOT, Path::new(""), left, &mut files);
        files
    }

    fn collect(&self, node: usize, path: &Path, left: Left, files: &mut Files) {
        let mut chance = match left {
            Left::Some(seed) => ChaCha8Rng::seed_from_u64(seed ^ (node as u64) << 40),
            _ => ChaCha8Rng::seed_from_u64(0),
        };
        match &self.nodes[node] {
            Node::File { now, safe, since } => {
                let bytes = match left {
                    Left::All => now.clone(),
                    Left::Nothing | Left::Names => safe.clone(),
                    Left::Some(_) => {
                        let mut bytes = safe.clone();
                        for change in since.iter().filter(|_| chance.random()) {
                            change.apply(&mut bytes);
                        }
                        if chance.random_bool(0.25) {
                            bytes.truncate(
                                chance.random_range(safe.len().min(bytes.len())..=bytes.len()),
                            );
                        }
                        bytes
                    }
                };
                files.insert(path.to_owned(), Some(bytes));
            }
            Node::Folder { now, safe, since } => {
                if node != ROOT {
                    files.insert(path.to_owned(), None);
                }
                let mut names = match left {
                    Left::All | Left::Names => now.clone(),
                    Left::Nothing | Left::Some(_) => safe.clone(),
                };
                if let Left::Some(_) = left {
                    for changes in since.iter().filter(|_| chance.random()) {
                        rename(&mut names, changes);
                    }
                }
                for (name, node) in names {
                    self.collect(node, &path.join(name), left, files);
                }
            }
        }
    }

    /// As another process finds it, when the one that has done all this is gone.
    pub fn forget_what_is_open(&mut self) {
        self.open.clear();
    }

    /// Does what a system call did.
    ///
    /// # Panics
    ///
    /// At one that is not known here, on a file of this disk.
    pub fn apply(&mut self, call: &Call) {
        let Call {
            name, arguments, ..
        } = call;
        let text = |i: usize| arguments[i].text();
        match name.as_str() {
            "openat" => self.open(text(0), &arguments[1], text(2), call.result),
            "close" => _ = self.open.remove(&arguments[0].number()),
            "write" => {
                if let Some(open) = self.open.get_mut(&arguments[0].number()) {
                    let written = usize::try_from(call.result).expect("it did not fail");
                    let bytes = &arguments[1].bytes()[..written];
                    let Node::File { now, since, .. } = &mut self.nodes[open.node] else {
                        panic!("a folder was written to: {call:?}");
                    };
                    let at = if open.appends { now.len() } else { open.at };
                    open.at = at + written;
                    let bytes = bytes.to_vec();
                    since.push(Change::Write { at, bytes });
                    since[since.len() - 1].apply(now);
                }
            }
            SYNC_BEGINS => {
                if let Some(open) = self.open.get_mut(&arguments[0].number()) {
                    open.syncs = match &self.nodes[open.node] {
                        Node::File { since, .. } => since.len(),
                        Node::Folder { since, .. } => since.len(),
                    };
                }
            }
            // What was done while it ran it may have missed.
            "fsync" | "fdatasync" => {
                if let Some(Open { node, syncs, .. }) = self.open.get(&arguments[0].number()) {
                    let (node, syncs) = (*node, *syncs);
                    match &mut self.nodes[node] {
                        Node::File { safe, since, .. } => {
                            since.drain(..syncs).for_each(|change| change.apply(safe));
                        }
                        Node::Folder { safe, since, .. } => {
                            since
                                .drain(..syncs)
                                .for_each(|changes| rename(safe, &changes));
                        }
                    }
                    let others = self.open.values_mut().filter(|open| open.node == node);
                    others.for_each(|open| open.syncs = open.syncs.saturating_sub(syncs));
                }
            }
            "mkdir" => self.make("AT_FDCWD", &arguments[0], folder()),
            "mkdirat" => self.make(text(0), &arguments[1], folder()),
            "rename" => self.rename("AT_FDCWD", &arguments[0], "AT_FDCWD", &arguments[1]),
            "renameat" | "renameat2" => {
                self.rename(text(0), &arguments[1], text(2), &arguments[3]);
            }
            "unlink" | "rmdir" => self.remove("AT_FDCWD", &arguments[0]),
            "unlinkat" => self.remove(text(0), &arguments[1]),
            _ => {
                let on_an_open_file = (arguments.iter())
                    .any(|argument| self.open.contains_key(&argument.number_if_any()));
                let on_a_path = (arguments.iter()).any(|argument| {
                    argument.is_quoted() && self.find("AT_FDCWD", argument).is_some()
                });
                assert!(
                    !on_an_open_file && !on_a_path,
                    "a call that is not known here: {call:?}"
                );
            }
        }
    }

    fn open(&mut self, at: &str, path: &Argument, flags: &str, number: i64) {
        let has = |flag: &str| flags.split('|').any(|one| one == flag);
        let Some((parent, name)) = self.find(at, path) else {
            return;
        };
        if has("O_CREAT") && self.node(parent, &name).is_none() {
            self.make(at, path, file());
        }
        let node = self.node(parent, &name);
        let node = node.unwrap_or_else(|| panic!("it was opened and is not there: {path:?}"));
        if let Node::File { now, since, .. } = &mut self.nodes[node]
            && has("O_TRUNC")
            && !now.is_empty()
        {
            since.push(Change::Truncate);
            now.clear();
        }
        let appends = has("O_APPEND");
        self.open.insert(
            number,
            Open {
                node,
                at: 0,
                appends,
                syncs: 0,
            },
        );
    }

    fn make(&mut self, at: &str, path: &Argument, node: Node) {
        if let Some((parent, name)) = self.find(at, path) {
            self.nodes.push(node);
            let new = self.nodes.len() - 1;
            self.change(parent, vec![(name, Some(new))]);
        }
    }

    fn rename(&mut self, from_at: &str, from: &Argument, to_at: &str, to: &Argument) {
        match (self.find(from_at, from), self.find(to_at, to)) {
            (None, None) => {}
            (Some((from, old)), Some((to, new))) => {
                let node = self.node(from, &old).expect("it is there");
                if from == to {
                    self.change(from, vec![(old, None), (new, Some(node))]);
                } else {
                    self.change(from, vec![(old, None)]);
                    self.change(to, vec![(new, Some(node))]);
                }
            }
            _ => panic!("a file that came from elsewhere, or left: {from:?}, {to:?}"),
        }
    }

    fn remove(&mut self, at: &str, path: &Argument) {
        if let Some((parent, name)) = self.find(at, path) {
            assert!(self.node(parent, &name).is_some(), "{name} is not there");
            self.change(parent, vec![(name, None)]);
        }
    }

    fn change(&mut self, folder: usize, changes: Vec<(String, Option<usize>)>) {
        let Node::Folder { now, since, .. } = &mut self.nodes[folder] else {
            panic!("a file has no names in it");
        };
        rename(now, &changes);
        since.push(changes);
    }

    /// What has this name in a folder, or is the folder where there is none.
    fn node(&self, folder: usize, name: &str) -> Option<usize> {
        match &self.nodes[folder] {
            _ if name.is_empty() => Some(folder),
            Node::Folder { now, .. } => now.get(name).copied(),
            Node::File { .. } => None,
        }
    }

    /// The folder that a path of this disk is in, and its name there; of the root itself the empty one.
    fn find(&self, at: &str, path: &Argument) -> Option<(usize, String)> {
        let path = path.path();
        let start = match at {
            "AT_FDCWD" => ROOT,
            _ if path.is_absolute() => ROOT,
            open => self.open.get(&open.parse().ok()?)?.node,
        };
        let path = match path.is_absolute() {
            true => path.strip_prefix(&self.root).ok()?,
            false => path.as_path(),
        };
        let names = path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_str().expect("UTF-8")),
            Component::CurDir => None,
            other => panic!("a path with {other:?}"),
        });
        let names: Vec<&str> = names.collect();
        let Some((last, folders)) = names.split_last() else {
            return Some((start, String::new()));
        };
        let mut folder = start;
        for name in folders {
            folder = self.node(folder, name)?;
        }
        Some((folder, (*last).to_owned()))
    }
}

fn file() -> Node {
    Node::File {
        now: Vec::new(),
        safe: Vec::new(),
        since: Vec::new(),
    }
}

fn folder() -> Node {
    Node::Folder {
        now: Names::new(),
        safe: Names::new(),
        since: Vec::new(),
    }
}

/// A system call that did not fail.
#[derive(Clone, Debug)]
pub struct Call {
    name: String,
    arguments: Vec<Argument>,
    result: i64,
}

/// As `strace -xx` writes it: with quotes around bytes.
#[derive(Clone, Debug)]
enum Argument {
    Bytes(Vec<u8>),
    Text(String),
}

impl Argument {
    fn of(text: &str) -> Self {
        match text.strip_prefix('"').map(|rest| rest.split_once('"')) {
            Some(Some((hex, ""))) => Self::Bytes(
                hex.split("\\x")
                    .skip(1)
                    .map(|byte| u8::from_str_radix(byte, 16).expect("a byte"))
                    .collect(),
            ),
            Some(_) => panic!("not the whole of it: {text}"),
            None => Self::Text(text.to_owned()),
        }
    }

    fn is_quoted(&self) -> bool {
        matches!(self, Self::Bytes(_))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Text(text) => panic!("{text} is no bytes"),
        }
    }

    fn path(&self) -> PathBuf {
        std::str::from_utf8(self.bytes()).expect("UTF-8").into()
    }

    fn text(&self) -> &str {
        match self {
            Self::Bytes(_) => panic!("{self:?} is bytes"),
            Self::Text(text) => text,
        }
    }

    fn number(&self) -> i64 {
        self.text().parse().expect("a number")
    }

    fn number_if_any(&self) -> i64 {
        match self {
            Self::Bytes(_) => -1,
            Self::Text(text) => text.parse().unwrap_or(-1),
        }
    }
}

/// All that can change a file; those that [`Disk`] does not know are there to be noticed. With `?`, one that this kind of
/// processor may not have.
const CALLS: &str = "trace=openat,close,write,fsync,fdatasync,?mkdir,mkdirat,?rename,?renameat,renameat2,?unlink,unlinkat,\
                     ?rmdir,?open,?creat,?openat2,pwrite64,writev,pwritev,?pwritev2,ftruncate,truncate,fallocate,?link,\
                     linkat,?symlink,symlinkat,copy_file_range,sendfile,splice,?dup2,dup,dup3,sync_file_range";

/// What `train` does with these arguments, in order, up to its end; none where `strace` is not there or may not be used.
///
/// # Panics
///
/// When it does not end well.
#[track_caller]
pub fn calls(at: &Place, arguments: &str) -> Option<Vec<Call>> {
    let traces = tempfile::tempdir().expect("a temporary folder");
    let mut command = strace()?;
    command.args(["-ff", "-ttt", "-T", "-xx", "-s", "100000000", "-e", CALLS]);
    command.arg("-o").arg(traces.path().join("thread"));
    command.arg(crate::program());
    command.args(arguments.split_whitespace());
    at.spawn(command).finish().succeeds();
    // In the order of their ends: what has not returned is nothing to rely on.
    let mut calls = Vec::new();
    for file in fs::read_dir(traces.path()).expect("a folder") {
        let text = fs::read_to_string(file.expect("an entry").path()).expect("ASCII");
        let mut latest = 0;
        for line in text.lines() {
            if let Some((start, end, call)) = parse(line) {
                if ["fsync", "fdatasync"].contains(&call.name.as_str()) {
                    let name = SYNC_BEGINS.to_owned();
                    calls.push((
                        start.max(latest),
                        Call {
                            name,
                            ..call.clone()
                        },
                    ));
                }
                latest = end.max(latest);
                calls.push((latest, call));
            }
        }
    }
    calls.sort_by_key(|(end, _)| *end);
    Some(calls.into_iter().map(|(_, call)| call).collect())
}

/// A line of one thread: when the call began and when it had returned, in microseconds, and what it was; none of what failed, or is no call.
fn parse(line: &str) -> Option<(u64, u64, Call)> {
    let micros = |seconds: &str| -> Option<u64> { seconds.replace('.', "").parse().ok() };
    let (start, rest) = line.split_once(' ')?;
    let (rest, took) = rest.strip_suffix('>')?.rsplit_once(" <")?;
    let (call, result) = rest.rsplit_once(" = ")?;
    let (name, arguments) = call.trim_end().strip_suffix(')')?.split_once('(')?;
    let result = result.split(' ').next()?.parse().ok()?;
    (result >= 0).then(|| {
        let arguments = arguments.split(", ").map(Argument::of).collect();
        let name = name.to_owned();
        // A number that is closed may be another file's before the call returns.
        let took = if name == "close" { "0" } else { took };
        let start = micros(start).expect("a time");
        (
            start,
            start + micros(took).expect("a duration"),
            Call {
                name,
                arguments,
                result,
            },
        )
    })
}
