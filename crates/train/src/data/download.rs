//! Downloads one gzipped IDX file, and leaves it unpacked or not at all.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::process;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};

use super::idx;

type BoxError = Box<dyn Error + Send + Sync>;

/// Downloads and unpacks `url` into the file `path`, which appears only when it is known to hold
/// `count` images of `side * side` pixels. Shows a progress bar where standard error is a terminal.
pub(super) fn fetch(url: &str, path: &Path, count: usize, side: usize) -> Result<(), BoxError> {
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
    let result = save(bar.wrap_read(body.into_reader()), path, count, side);
    bar.finish_and_clear();
    result
}

/// Unpacks into a file of another name beside `path`, checks that, and renames it.
fn save(zipped: impl Read, path: &Path, count: usize, side: usize) -> Result<(), BoxError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // With the process in its name, two runs started at once do not write into one file.
    let part = path.with_extension(format!("{}.part", process::id()));
    let result = unpack(zipped, &part, count, side).and_then(|()| Ok(fs::rename(&part, path)?));
    if result.is_err() {
        // It may be missing, and the first error is the one to report.
        let _ = fs::remove_file(&part);
    }
    result
}

fn unpack(zipped: impl Read, path: &Path, count: usize, side: usize) -> Result<(), BoxError> {
    // One byte more than a right file has, so that a longer one is seen but not stored.
    let limit = 16 + count * side * side + 1;
    let mut bytes = MultiGzDecoder::new(zipped).take(limit as u64);
    io::copy(&mut bytes, &mut File::create(path)?)?;
    let images = idx::read(path).map_err(|error| format!("what was sent {error}"))?;
    if (images.len(), images.side) != (count, side) {
        let (len, width) = (images.len(), images.side);
        return Err(format!("{len} images of {width} x {width} pixels were sent").into());
    }
    Ok(())
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
        fetch(&serve(response("200 OK", &gzip(&file()))), &path, 2, 3).unwrap();
        assert_eq!(fs::read(&path).unwrap(), file());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn an_error_of_the_server_creates_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let url = serve(response("404 Not Found", b""));
        let error = fetch(&url, &folder.path().join("new/images"), 2, 3).unwrap_err();
        assert!(error.to_string().contains("404"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn bad_files_leave_nothing_behind() {
        let zipped = gzip(&file());
        let whole = response("200 OK", &zipped);
        let other_count = idx([0x0803, 1, 3, 3], &[7; 9]);
        let longer = [file(), vec![0; 100]].concat();
        let answers = [
            whole[..whole.len() - 5].to_vec(),
            response("200 OK", &zipped[..zipped.len() - 5]),
            response("200 OK", b"<html>please log in</html>"),
            response("200 OK", &gzip(b"no images")),
            response("200 OK", &gzip(&other_count)),
            response("200 OK", &gzip(&longer)),
        ];
        for (i, answer) in answers.into_iter().enumerate() {
            let folder = tempfile::tempdir().unwrap();
            let result = fetch(&serve(answer), &folder.path().join("images"), 2, 3);
            assert!(result.is_err(), "answer {i}");
            assert_eq!(
                fs::read_dir(folder.path()).unwrap().count(),
                0,
                "answer {i}"
            );
        }
    }
}
