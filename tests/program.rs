//! Programs as processes: `train`, and the examples.

use std::{
    io::{self, BufRead, BufReader, Read},
    mem,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::Duration,
};

use escargot::{CargoBuild, CargoRun};

/// The longest silence that is waited for: a GPU backend may tune its kernels first.
const PATIENCE: Duration = Duration::from_secs(240);

/// The path of `train`, as `cargo run -p train` builds it.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<CargoRun> = OnceLock::new();
    let features = if cfg!(feature = "remote") {
        "remote"
    } else {
        ""
    };
    let program = CargoBuild::new().package("train").bin("train");
    let build = || build(program.features(features));
    PROGRAM.get_or_init(build).path()
}

/// The path of an example of `burn-flows`, as `cargo run --example NAME` and `cargo test` build it.
pub fn example(name: &str) -> PathBuf {
    let example = CargoBuild::new().arg("--workspace").example(name);
    build(example).path().to_owned()
}

/// `strace`, which follows all threads; none where it is not there or may not be used.
pub fn strace() -> Option<Command> {
    let mut tried = Command::new("strace");
    let can = tried.args(["-o", "/dev/null", "true"]).status();
    can.is_ok_and(|status| status.success()).then(|| {
        let mut command = Command::new("strace");
        command.arg("-f");
        command
    })
}

fn build(build: CargoBuild) -> CargoRun {
    // What cargo tells this test about its own package would make build scripts run again.
    let build = std::env::vars_os()
        .map(|(key, _)| key)
        .filter(|key| key.to_string_lossy().starts_with("CARGO_"))
        .filter(|key| key != "CARGO_HOME" && key != "CARGO_TARGET_DIR")
        .fold(build, CargoBuild::env_remove);
    build.run().expect("it builds")
}

/// A process that was started; it is killed when it is dropped.
pub struct Running {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Running {
    /// Starts a command with its outputs captured and no input.
    pub fn new(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = Lines::of(child.stdout.take().expect("piped"));
        let stderr = Lines::of(child.stderr.take().expect("piped"));
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// Waits until it prints a line that starts like this, and returns that.
    #[track_caller]
    pub fn wait_for(&mut self, start: &str) -> String {
        self.stdout.wait_for(start)
    }

    /// Waits until it says a line that starts like this on standard error.
    #[track_caller]
    pub fn wait_for_word(&mut self, start: &str) {
        self.stderr.wait_for(start);
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&self) {
        self.signal("INT");
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let kill = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(kill.expect("the command kill").success());
    }

    /// The memory that it has now, in bytes, as Linux counts it.
    pub fn memory(&self) -> usize {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).expect("Linux, and it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.expect("a size").trim().trim_end_matches(" kB");
        1024 * kib.parse::<usize>().expect("a number")
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Ends it without warning, as a power cut does.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is gone");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(mut self) -> Outcome {
        let (stdout, stderr) = (self.stdout.all(), self.stderr.all());
        Outcome {
            code: self.child.wait().expect("it ends").code(),
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One of its outputs, line by line.
struct Lines {
    coming: Receiver<io::Result<String>>,
    /// What has come.
    text: String,
}

impl Lines {
    fn of(output: impl Read + Send + 'static) -> Self {
        let (sender, coming) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            coming,
            text: String::new(),
        }
    }

    #[track_caller]
    fn wait_for(&mut self, start: &str) -> String {
        while let Some(line) = self.next() {
            if line.starts_with(start) {
                return line;
            }
        }
        panic!("it ended without a line {start:?}; it said:\n{}", self.text);
    }

    /// All that comes, until its end.
    #[track_caller]
    fn all(&mut self) -> String {
        while self.next().is_some() {}
        mem::take(&mut self.text)
    }

    /// The next line, until its end.
    #[track_caller]
    fn next(&mut self) -> Option<String> {
        match self.coming.recv_timeout(PATIENCE) {
            Ok(line) => {
                let line = line.expect("UTF-8");
                self.text += &line;
                self.text.push('\n');
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("it hangs after saying:\n{}", self.text),
        }
    }
}

/// How a process ended.
#[derive(Debug)]
pub struct Outcome {
    /// None when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Outcome {
    /// Itself, if all went well and without complaints.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        assert_eq!(self.stderr, "", "{self:#?}");
        self
    }

    /// Checks that it ended on its own with one line of error that has all of `words`. The command line's
    /// parser (code 2) may add to that line how it is used.
    #[track_caller]
    pub fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let errors: Vec<&str> = self.stderr.lines().collect();
        assert!(errors.len() == 1 || code == 2, "not one line: {self:#?}");
        let error = errors.first().expect("an error");
        assert!(error.starts_with("error: "), "{self:#?}");
        for word in words {
            assert!(error.contains(word), "{word:?} is not in: {error}");
        }
    }
}
