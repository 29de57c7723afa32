//! Downloads one gzipped IDX file, and leaves it unpacked or not at all.

use std::error::Error;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use crate::run::disk::replace_own;

type BoxError = Box<dyn Error + Send + Sync>;

/// The most that is unpacked: MNIST's larger file has 47,040,016 bytes.
const MAX_BYTES: u64 = 50_000_000;

/// Downloads and unpacks `url` into the file `path`, which appears only when its contents are known to have this
/// checksum. Shows a progress bar where standard error is a terminal.
pub(super) fn fetch(url: &str, path: &Path, sha256: &str) -> Result<(), BoxError> {
    let body = ureq::get(url)
        .config()
        .timeout_resolve(Some(Duration::from_secs(20)))
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .build()
        .call()?
        .into_body();

    let bar = match body.content_length() {
        Some(bytes) => ProgressBar::new(bytes),
        None => ProgressBar::no_length(),
    };
    bar.set_style(ProgressStyle::with_template(
        "downloading {msg} {wide_bar} {bytes}/{total_bytes} {eta}",
    )?);
    bar.set_message(url.rsplit('/').next().unwrap_or(url).to_owned());
    let result = save(bar.wrap_read(body.into_reader()), path, sha256);
    bar.finish_and_clear();
    result
}

/// Unpacks, and writes what is as it should be.
fn save(zipped: impl Read, path: &Path, sha256: &str) -> Result<(), BoxError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut bytes = Vec::new();
    MultiGzDecoder::new(zipped)
        .take(MAX_BYTES)
        .read_to_end(&mut bytes)?;
    let found = Sha256::digest(&bytes);
    if format!("{found:x}") != sha256 {
        return Err(format!(
            "what was sent is not the file of MNIST: its SHA-256 is {found:x} instead of {sha256}"
        )
        .into());
    }
    Ok(replace_own(path, &bytes)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    use super::super::idx::tests::{gzip, idx};
    use super::*;

    /// Two images of 3 x 3 pixels.
    fn file() -> Vec<u8> {
        idx([0x0803, 2, 3, 3], &[7; 18])
    }

    fn sha256(bytes: &[u8]) -> String {
        format!("{:x}", Sha256::digest(bytes))
    }

    /// Answers one request with the given bytes; the address to ask.
    fn serve(answer: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file.gz", listener.local_addr().unwrap());
        thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let _ = socket.read(&mut [0; 4096]).unwrap();
            socket.write_all(&answer).unwrap();
        });
        url
    }

    fn response(status: &str, body: &[u8]) -> Vec<u8> {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
        [head.as_bytes(), body].concat()
    }

    #[test]
    fn a_good_file_arrives_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/images");
        fetch(
            &serve(response("200 OK", &gzip(&file()))),
            &path,
            &sha256(&file()),
        )
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), file());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_take_its_place_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images");
        fs::create_dir(&path).unwrap();
        let url = serve(response("200 OK", &gzip(&file())));
        fetch(&url, &path, &sha256(&file())).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_error_of_the_server_creates_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let url = serve(response("404 Not Found", b""));
        let error = fetch(&url, &folder.path().join("new/images"), "").unwrap_err();
        assert!(error.to_string().contains("404"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn bad_files_leave_nothing_behind() {
        let zipped = gzip(&file());
        let whole = response("200 OK", &zipped);
        let other_pixel = idx([0x0803, 2, 3, 3], &[[7; 17].as_slice(), &[8]].concat());
        let longer = [file(), vec![0; 100]].concat();
        let answers = [
            whole[..whole.len() - 5].to_vec(),
            response("200 OK", &zipped[..zipped.len() - 5]),
            response("200 OK", b"<html>please log in</html>"),
            response("200 OK", &gzip(b"no images")),
            response("200 OK", &gzip(&other_pixel)),
            response("200 OK", &gzip(&longer)),
        ];
        for (i, answer) in answers.into_iter().enumerate() {
            let folder = tempfile::tempdir().unwrap();
            let result = fetch(
                &serve(answer),
                &folder.path().join("images"),
                &sha256(&file()),
            );
            assert!(result.is_err(), "answer {i}");
            assert_eq!(
                fs::read_dir(folder.path()).unwrap().count(),
                0,
                "answer {i}"
            );
        }
    }
}
