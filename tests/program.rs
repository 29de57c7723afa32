//! Programs as processes: `train`, and the examples.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use escargot::{CargoBuild, CargoRun};

/// The longest silence that is waited for: a GPU backend may tune its kernels first.
const PATIENCE: Duration = Duration::from_secs(240);

/// The path of `train`, as `cargo run -p train` builds it.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<CargoRun> = OnceLock::new();
    let build = || build(CargoBuild::new().package("train").bin("train"));
    PROGRAM.get_or_init(build).path()
}

/// The path of an example of `burn-flows`, as `cargo run --example NAME` and `cargo test` build it.
pub fn example(name: &str) -> PathBuf {
    let example = CargoBuild::new().arg("--workspace").example(name);
    build(example).path().to_owned()
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
    lines: Receiver<String>,
    stdout: String,
    stderr: Option<JoinHandle<String>>,
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
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        thread::spawn(move || {
            for line in stdout.lines() {
                if sender.send(line.expect("UTF-8")).is_err() {
                    return;
                }
            }
        });
        let mut stderr = child.stderr.take().expect("piped");
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).expect("UTF-8");
            text
        });
        Self {
            child,
            lines,
            stdout: String::new(),
            stderr: Some(stderr),
        }
    }

    /// Waits until it prints a line that starts like this.
    #[track_caller]
    pub fn wait_for(&mut self, start: &str) {
        while let Some(line) = self.line() {
            if line.starts_with(start) {
                return;
            }
        }
        panic!(
            "it ended without a line {start:?}; it said:\n{}",
            self.stdout
        );
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
        while self.line().is_some() {}
        let stderr = self.stderr.take().expect("finished once");
        Outcome {
            code: self.child.wait().expect("it ends").code(),
            stdout: std::mem::take(&mut self.stdout),
            stderr: stderr.join().expect("no panic"),
        }
    }

    /// The next line of its output, until its end.
    #[track_caller]
    fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.stdout += &line;
                self.stdout.push('\n');
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("it hangs after saying:\n{}", self.stdout),
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
