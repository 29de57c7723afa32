//! Offers this machine's devices to those who train on others.

use anyhow::Result;

use crate::cli::ServeArgs;

/// Serves until Ctrl-C or SIGTERM.
///
/// # Errors
///
/// When the backend cannot be had, or nobody may listen at the address.
#[cfg(feature = "remote")]
pub fn run(args: &ServeArgs) -> Result<()> {
    use std::net::TcpListener;

    use anyhow::{Context, ensure};
    use burn::server::{RemoteServer, TokenAuthorizer, WebSocketTransport};

    use crate::{
        backend::{Backend, DeviceName},
        environment,
        remote::{self, TOKEN},
        terminal::say,
    };

    let backend = args.backend.unwrap_or_default();
    ensure!(
        backend != Backend::Remote,
        "--backend remote: what is served are this machine's own devices; name one of its backends"
    );
    // Burn tells of every connection otherwise, and of each tensor that goes from one server to another.
    if std::env::var_os("RUST_LOG").is_none() {
        environment::set_once("RUST_LOG", "warn");
    }
    let devices = match &args.devices {
        None => vec![backend.device()?],
        Some(numbers) => {
            let names: Vec<DeviceName> = numbers.iter().copied().map(DeviceName::Number).collect();
            backend.devices(&names)?
        }
    };
    let listener = TcpListener::bind(&args.listen)
        .with_context(|| format!("--listen {}: cannot listen there", args.listen))?;
    let at = listener.local_addr()?;

    let host = match at.ip().is_unspecified() {
        true => format!("THIS-MACHINE:{}", at.port()),
        false => at.to_string(),
    };
    let addresses: Vec<String> = match devices.len() {
        1 => vec![format!("remote:{host}")],
        count => (0..count).map(|i| format!("remote:{host}/{i}")).collect(),
    };
    let command = format!(
        "cargo run -p train --features remote -- --devices {}",
        addresses.join(",")
    );
    let mut server = RemoteServer::new(devices);
    let train = if args.open {
        format!("by anybody who gets here, with: {command}")
    } else if let Some(token) = remote::token() {
        server = server.with_authorizer(TokenAuthorizer::new(token)?);
        format!("with the same {TOKEN}: {command}")
    } else {
        let token = random_token()?;
        server = server.with_authorizer(TokenAuthorizer::new(&*token)?);
        format!("with: {TOKEN}={token} {command}")
    };
    say(format_args!(
        "serving {backend} at {at}, until Ctrl-C; nothing is encrypted, so that other networks take a tunnel (docs/remote.md)"
    ));
    say(format_args!("to be trained on {train}"));

    server.serve(WebSocketTransport::from_listener(listener))?;
    say("stopped serving");
    Ok(())
}

/// One that nobody guesses.
#[cfg(feature = "remote")]
fn random_token() -> Result<String> {
    use rand::{TryRng, rngs::SysRng};

    let mut bytes = [0; 16];
    SysRng.try_fill_bytes(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// # Errors
///
/// Always.
#[cfg(not(feature = "remote"))]
pub fn run(_: &ServeArgs) -> Result<()> {
    anyhow::bail!(
        "this program was built without it: `cargo run -p train --features remote -- serve`, which builds some 170 packages more, and Burn once more"
    )
}
