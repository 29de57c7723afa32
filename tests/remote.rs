//! Training on devices of other machines: two servers on this one, which are this program too.
//!
//! The program takes the feature `remote`, without which it is built for the other tests:
//!
//! ```sh
//! cargo test --workspace --features end-to-end/remote --test remote
//! ```

use std::process::Command;

use end_to_end::{Outcome, Place, Running, TINY, program};

const TOKEN: &str = "BURN_FLOWS_TOKEN";

/// `train serve` on a free port, with this token.
struct Server {
    process: Running,
    /// `remote:HOST:PORT`.
    address: String,
}

impl Server {
    fn start(at: &Place, flags: &str, token: Option<&str>) -> Self {
        let mut command = Command::new(program());
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(flags.split_whitespace())
            .env_remove(TOKEN);
        if let Some(token) = token {
            command.env(TOKEN, token);
        }
        let mut process = at.spawn(command);
        let line = process.wait_for("serving ");
        let (_, rest) = line.split_once(" at ").expect("an address");
        let (address, _) = rest.split_once(',').expect("an end of it");
        let address = format!("remote:{address}");
        Self { process, address }
    }

    fn open(at: &Place) -> Self {
        Self::start(at, "--open", None)
    }
}

/// Starts `train` with these arguments and this token.
fn start(at: &Place, arguments: &str, token: Option<&str>) -> Running {
    let mut command = Command::new(program());
    command.args(arguments.split_whitespace()).env_remove(TOKEN);
    if let Some(token) = token {
        command.env(TOKEN, token);
    }
    at.spawn(command)
}

#[track_caller]
fn train(at: &Place, arguments: &str) -> Outcome {
    start(at, arguments, None).finish()
}

/// The same numbers up to the order of sums, in two epochs of small steps.
#[track_caller]
fn assert_close(at: &Place, run: &str, other: &str) {
    for column in ["train_elbo", "valid_elbo", "valid_kl", "gradient_norm"] {
        let [a, b] = [run, other].map(|run| at.numbers(&format!("{run}/metrics.csv"), column));
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(&b) {
            let close = (a - b).abs() < 1e-3 * a.abs();
            assert!(close, "{column}: {a} in {run}, {b} in {other}");
        }
    }
}

#[test]
fn one_server_and_two_train_as_this_machine_does() {
    let at = Place::with_run("");
    let [one, other] = [
        Server::open(&at),
        Server::start(&at, "--open --devices 0,0", None),
    ];
    for (run, devices) in [
        ("one", one.address.clone()),
        ("two", format!("{},{}", one.address, other.address)),
        ("both-of-one", format!("{0},{0}/1", other.address)),
    ] {
        train(
            &at,
            &format!("{TINY} --epochs 2 --devices {devices} --output {run}"),
        )
        .succeeds();
        assert_close(&at, "run", run);
        let config = at.text(&format!("{run}/config.json"));
        assert!(config.contains("\"backend\": \"remote\""), "{config}");
        assert!(config.contains(&one.address) || run == "both-of-one");
    }
    train(&at, "evaluate one --samples 2").succeeds();
    train(&at, "evaluate one --samples 2 --backend ndarray").succeeds();
    let bound = at.numbers("one/evaluations.csv", "elbo");
    assert!(
        (bound[0] - bound[1]).abs() < 1e-3 * bound[0].abs(),
        "{bound:?}"
    );
}

#[test]
fn other_kinds_of_runs_train_there_too() {
    let at = Place::new();
    let server = Server::open(&at);
    for kind in [
        "density --points two-moons --flow planar-identity --layers 2 --batch-size 5000",
        "energy --energy u1 --layers 2 --batch-size 5000",
    ] {
        for (run, flags) in [
            ("here", String::new()),
            ("there", format!("--devices {}", server.address)),
        ] {
            let run = format!("{}-{run}", &kind[..6]);
            train(&at, &format!("{kind} --epochs 2 {flags} --output {run}")).succeeds();
        }
        let [a, b] = ["here", "there"].map(|run| {
            at.numbers(
                &format!("{}-{run}/metrics.csv", &kind[..6]),
                "gradient_norm",
            )
        });
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() < 1e-2 * a, "{kind}: {a}, {b}");
        }
    }
}

/// In the middle of an epoch: the checkpoint before it stays, and the run goes on elsewhere, or here.
#[test]
fn a_server_that_dies_ends_the_training_with_an_error_and_not_the_run() {
    for killed in [0, 1] {
        let at = Place::new();
        let mut servers = vec![Server::open(&at), Server::open(&at)];
        let addresses: Vec<String> = servers.iter().map(|s| s.address.clone()).collect();
        let mut running = start(
            &at,
            &format!(
                "{TINY} --epochs 10000 --devices {} --output torn",
                addresses.join(",")
            ),
            None,
        );
        for _ in 0..2 {
            running.wait_for("epoch ");
        }
        servers.remove(killed).process.kill();
        let outcome = running.finish();
        let gone = addresses[killed].trim_start_matches("remote:");
        outcome.fails(
            1,
            &[
                &format!("training stopped: the connection to {gone} was lost"),
                "is kept in torn",
            ],
        );
        let saved = at.saved("torn");
        let last = *saved.last().expect("a checkpoint");
        for (copy, flags) in [
            ("there", format!("--devices {}", servers[0].address)),
            ("here", "--devices 0".into()),
        ] {
            for (file, bytes) in at.files() {
                if let Ok(file) = file.strip_prefix("torn") {
                    at.write(&format!("{copy}/{}", file.display()), bytes);
                }
            }
            train(
                &at,
                &format!("--resume {copy} --epochs {} {flags}", last + 1),
            )
            .succeeds();
        }
        assert_close(&at, "there", "here");
    }
}

/// One that falls silent is waited for, and a third Ctrl-C ends that; the run goes on from its last checkpoint.
#[test]
fn a_silent_server_can_be_left() {
    let at = Place::new();
    let server = Server::open(&at);
    let flags = format!(
        "{TINY} --epochs 10000 --devices {} --output run",
        server.address
    );
    let mut running = start(&at, &flags, None);
    for _ in 0..3 {
        running.wait_for("epoch ");
    }
    server.process.signal("STOP");
    running.signal("INT");
    running.wait_for_word("stopping after this epoch");
    running.signal("INT");
    running.signal("INT");
    let outcome = running.finish();
    assert_eq!(outcome.code, Some(130), "{outcome:?}");
    let last = *at.saved("run").last().expect("a checkpoint");
    let flags = format!("--resume run --epochs {} --devices 0", last + 1);
    train(&at, &flags).succeeds();
}

#[test]
fn who_has_not_the_token_is_refused() {
    let at = Place::new();
    let with = Server::start(&at, "", Some("the-token"));
    let again = |token| {
        let flags = format!("{TINY} --epochs 1 --devices {} --output run", with.address);
        start(&at, &flags, token).finish()
    };
    again(None).fails(1, &[&with.address, "wants a token", TOKEN]);
    again(Some("another")).fails(1, &[&with.address, "refuses this token", TOKEN]);
    assert!(!at.path("run").exists());
    again(Some("the-token")).succeeds();
    for (file, bytes) in at.files() {
        let has = bytes.windows(9).any(|bytes| bytes == b"the-token");
        assert!(!has, "{} has the token", file.display());
    }
}

#[test]
fn a_token_is_made_where_none_is_given() {
    let at = Place::new();
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let mut server = Server::start(&at, "", None);
        let line = server.process.wait_for("to be trained on with: ");
        let token = line.split([' ', '=']).nth(6).expect("a token").to_owned();
        let flags = format!("{TINY} --epochs 1 --devices {}", server.address);
        start(&at, &flags, None)
            .finish()
            .fails(1, &["wants a token"]);
        start(&at, &flags, Some(&token)).finish().succeeds();
        assert!(token.len() == 32 && !tokens.contains(&token), "{line}");
        tokens.push(token);
    }
}

#[test]
fn a_server_ends_when_it_is_told_to() {
    let at = Place::new();
    for signal in ["INT", "TERM"] {
        let server = Server::open(&at);
        // It listens to signals when it serves.
        let flags = format!("{TINY} --epochs 1 --devices {}", server.address);
        train(&at, &flags).succeeds();
        server.process.signal(signal);
        let outcome = server.process.finish().succeeds();
        assert!(outcome.stdout.ends_with("stopped serving\n"), "{outcome:?}");
    }
}

#[test]
fn what_cannot_be_had_is_said() {
    let at = Place::new();
    let server = Server::open(&at);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let there = &server.address;
    for (flags, code, said) in [
        (
            format!("--devices remote:127.0.0.1:{port}"),
            1,
            "`train serve` running there",
        ),
        (
            format!("--devices {there}/1"),
            1,
            "`train serve` offers 1 there",
        ),
        (
            format!("--devices 0,{there}"),
            1,
            "--backend remote: --devices names its devices as remote:HOST:PORT",
        ),
        (
            format!("--backend flex --devices {there}"),
            1,
            "--backend flex: --devices names its devices as numbers",
        ),
        (
            "--backend remote".into(),
            1,
            "--backend remote: --devices names its devices as",
        ),
        ("--devices remote:here".into(), 2, "remote:HOST:PORT/N"),
        (
            format!("serve --listen {}", &there["remote:".len()..]),
            1,
            "cannot listen there",
        ),
        (
            "serve --backend remote".into(),
            1,
            "this machine's own devices",
        ),
        (
            "serve --devices 1".into(),
            1,
            "the backend flex has one device",
        ),
    ] {
        train(&at, &flags).fails(code, &[said]);
        assert!(!at.path("runs").exists());
    }
}
