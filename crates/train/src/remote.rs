//! Devices of other machines, which `train serve` offers there, through Burn's remote backend.

use std::{
    any::Any,
    collections::BTreeSet,
    fmt,
    net::{TcpStream, ToSocketAddrs},
    panic::{self, AssertUnwindSafe},
    str::FromStr,
    sync::Mutex,
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// The variable of the environment that has the token: a server's, and what it is told by those who train there.
#[cfg(feature = "remote")]
pub const TOKEN: &str = "BURN_FLOWS_TOKEN";

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a device is: `remote:HOST:PORT/N`, or without `/N` the server's first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// `HOST:PORT`.
    server: String,
    /// Which of the server's, from 0. Burn sends it in 32 bits.
    number: u32,
}

/// Why a device of another machine cannot be had.
#[cfg(feature = "remote")]
#[derive(Debug, thiserror::Error)]
#[error("{address}: {reason}")]
pub struct NoDevice {
    address: Address,
    reason: String,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let rest = text.strip_prefix("remote:")?;
            let (server, number) = rest.split_once('/').unwrap_or((rest, "0"));
            let (host, port) = server.rsplit_once(':')?;
            // A number is digits alone, which Rust would read a sign before.
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            let is_port = digits(port) && port.parse::<u16>().is_ok_and(|port| port > 0);
            (is_host(host) && is_port && digits(number)).then_some(())?;
            Some(Self {
                server: server.to_owned(),
                number: number.parse().ok()?,
            })
        };
        parse().ok_or_else(|| {
            format!("`{text}` is neither a number nor an address, remote:HOST:PORT or remote:HOST:PORT/N")
        })
    }
}

/// Whether it is a name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    let (inner, more) = match text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(inner) => (inner, ":%"),
        None => (text, "-_"),
    };
    let is_part = |part: char| part.is_ascii_alphanumeric() || part == '.' || more.contains(part);
    !inner.is_empty() && inner.chars().all(is_part)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remote:{}", self.server)?;
        match self.number {
            0 => Ok(()),
            number => write!(f, "/{number}"),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

/// Connects to a device, with the token of the environment.
///
/// # Errors
///
/// When nobody answers there, the token is not the server's, or it has no such device.
#[cfg(feature = "remote")]
pub fn connect(address: &Address) -> Result<burn::tensor::Device, NoDevice> {
    use std::{sync::mpsc::channel, thread};

    use burn::{remote::RemoteHost, tensor::Device};

    let mut host = RemoteHost::websocket(&format!("ws://{}", address.server));
    if let Some(token) = token() {
        host = host.with_credential(token);
    }
    let options = Device::remote_options(&host).device_index(address.number as usize);
    // Burn waits for as long as whoever listens there says nothing.
    let (tell, told) = channel();
    thread::spawn(move || tell.send(options.init()));
    let reason = match told.recv_timeout(PATIENCE) {
        Ok(Ok(device)) => {
            let mut servers = SERVERS.lock().expect("no holder panics");
            if servers.is_empty() {
                hush();
            }
            servers.insert(address.server.clone());
            return Ok(device);
        }
        Ok(Err(error)) => refusal(&error),
        Err(_) => format!("nobody answered in {} s", PATIENCE.as_secs()),
    };
    let address = address.clone();
    Err(NoDevice { address, reason })
}

/// That of the environment.
#[cfg(feature = "remote")]
pub fn token() -> Option<String> {
    std::env::var(TOKEN).ok().filter(|token| !token.is_empty())
}

#[cfg(feature = "remote")]
fn refusal(error: &burn::remote::ConnectError) -> String {
    use burn::remote::ConnectError;

    match error {
        ConnectError::Unauthorized => format!(
            "{}: {TOKEN} has to be what `train serve` printed there",
            match token() {
                Some(_) => "it refuses this token",
                None => "it wants a token",
            }
        ),
        ConnectError::NoSuchDevice { device_count } => {
            format!("`train serve` offers {device_count} there, numbered from 0")
        }
        error => format!("{error}: is `train serve` running there, built with the same Burn?"),
    }
}

/// The servers that this process has connected to.
static SERVERS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// What Burn says of a read to which no answer came.
const UNREAD: &str = "Failed to read tensor";

/// What has become of the servers, if it is why something failed, of which Burn says this.
pub fn lost(said: &str) -> Option<String> {
    let servers = SERVERS.lock().expect("no holder panics").clone();
    let answers = |server: &str| {
        let mut at = server.to_socket_addrs().into_iter().flatten();
        at.any(|at| TcpStream::connect_timeout(&at, PATIENCE).is_ok())
    };
    let (there, gone): (Vec<String>, Vec<String>) =
        servers.into_iter().partition(|server| answers(server));
    if !gone.is_empty() {
        return Some(format!("the connection to {} was lost", gone.join(" and ")));
    }
    let broke_off = !there.is_empty() && said.contains(UNREAD);
    broke_off.then(|| {
        format!(
            "a server broke it off, which says why where it runs, or was started anew: {}",
            there.join(" or ")
        )
    })
}

/// Does `work`; where Burn panics in it because a server doesn't answer, since not all that reads can return an error, that is
/// an error.
///
/// # Errors
///
/// With what has become of the server.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let of_a_server = said(&*payload).contains(UNREAD).then(|| lost(UNREAD));
        of_a_server
            .flatten()
            .unwrap_or_else(|| panic::resume_unwind(payload))
    })
}

/// What an error means that says of a server that it didn't answer a read.
pub fn explained(error: anyhow::Error) -> anyhow::Error {
    let of_a_server = format!("{error:#}").contains(UNREAD);
    match of_a_server.then(|| lost(UNREAD)).flatten() {
        Some(cause) => anyhow::Error::msg(cause),
        None => error,
    }
}

/// Of a panic that becomes an error nothing is said before.
#[cfg(feature = "remote")]
fn hush() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !said(panic.payload()).contains(UNREAD) {
            usual(panic);
        }
    }));
}

/// The words of a panic.
pub fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for text in [
            "remote:gpu:3000",
            "remote:10.0.0.7:1/3",
            "remote:a-machine.local:80",
            "remote:[::1]:65535",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        let first: Address = "remote:gpu:3000/0".parse().unwrap();
        assert_eq!(first.to_string(), "remote:gpu:3000");
        for text in [
            "gpu:3000",
            "remote:gpu",
            "remote::3000",
            "remote:gpu:0",
            "remote:gpu:70000",
            "remote:gpu:1/",
            "remote:gpu:1/x",
            "remote:ws://gpu:1",
            "remote:gpu:+1",
            "remote:gpu:1/+1",
            "remote:gpu:1/4294967296",
            "remote:::1:3000",
            "remote:[::1]x:3000",
            "remote:me:pass@gpu:1",
            "remote:gpu?a=:1",
            "",
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains("remote:HOST:PORT"), "{error}");
        }
    }
}
