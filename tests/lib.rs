//! Shared helpers of the end-to-end tests.

mod cifar;
mod devices;
pub mod disk;
mod idx;
pub mod picture;
mod program;
mod tensors;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

use burn::{module::Module, tensor::Device};
use burn_flows::FlowConfig;
use flow_vae::{Activation, Likelihood, VaeConfig};
use serde_json::Value;

pub use cifar::{TEST_BATCH, TRAIN_BATCH, batch, cifar};
pub use devices::{ndarray, wgpu};
pub use idx::{TEST_IMAGES, TRAIN_IMAGES, gzip, idx, images};
pub use program::{Outcome, Running, example, program, strace};
pub use tensors::{gradients, largest, parameters};

/// A model that trains an epoch in a blink, at a rate that does not ask how many there will be.
pub const TINY: &str = "--hidden 16 --latent-dim 4 --layers 2 --schedule constant";

/// The model of [`TINY`] on the digits.
pub fn tiny() -> VaeConfig {
    VaeConfig {
        pixels: 64,
        likelihood: Likelihood::Bernoulli,
        hidden: vec![16],
        activation: Activation::Maxout { window: 4 },
        flow: FlowConfig::planar(4, 2),
    }
}

/// A temporary folder that `train` is run in; all paths are relative to it.
pub struct Place(tempfile::TempDir);

impl Default for Place {
    fn default() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }
}

impl Place {
    /// An empty folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// A folder with a run `run` of two epochs of [`TINY`] on the digits, under further `flags`.
    pub fn with_run(flags: &str) -> Self {
        let at = Self::new();
        at.train(&format!("{TINY} --epochs 2 --output run {flags}"))
            .succeeds();
        at
    }

    /// The whole path of `path`.
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Runs `train` with these arguments, split at spaces, to its end.
    #[track_caller]
    pub fn train(&self, arguments: &str) -> Outcome {
        self.start(arguments).finish()
    }

    /// Starts `train` with these arguments, split at spaces.
    pub fn start(&self, arguments: &str) -> Running {
        let mut command = Command::new(program());
        command.args(arguments.split_whitespace());
        self.spawn(command)
    }

    /// Starts any command here.
    pub fn spawn(&self, mut command: Command) -> Running {
        let here = self.0.path();
        // Mesa complains on standard error when it has none.
        command.env("XDG_RUNTIME_DIR", here);
        Running::new(command.current_dir(here))
    }

    /// The bytes of a file.
    #[track_caller]
    pub fn bytes(&self, file: &str) -> Vec<u8> {
        let path = self.path(file);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The text of a file.
    #[track_caller]
    pub fn text(&self, file: &str) -> String {
        String::from_utf8(self.bytes(file)).expect("UTF-8")
    }

    /// Writes a file, and the folders that it is in.
    pub fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a written file");
    }

    /// A picture.
    #[track_caller]
    pub fn picture(&self, file: &str) -> picture::Picture {
        picture::Picture::of(&self.bytes(file))
    }

    /// Every file below here, with its bytes.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(self.0.path(), self.0.path(), &mut files);
        files
    }

    /// Every file below a folder, by its path from there.
    pub fn files_in(&self, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let folder = self.path(folder);
        collect(&folder, &folder, &mut files);
        files
    }

    /// The names of what is in a folder.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).expect("a folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    }

    /// The epochs that a run has checkpoints of, in order; none where it has not begun.
    pub fn saved(&self, run: &str) -> Vec<usize> {
        let entries = fs::read_dir(self.path(&format!("{run}/checkpoint")));
        let names = entries.into_iter().flatten().flatten();
        let mut epochs: Vec<usize> = names
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        epochs.sort_unstable();
        epochs
    }

    /// What `train evaluate` says of a run with these flags, by the names of `evaluations.csv`.
    #[track_caller]
    pub fn evaluated(&self, run: &str) -> Value {
        let printed = self.train(&format!("evaluate {run} --json"));
        let all: Value = serde_json::from_str(&printed.succeeds().stdout).expect("JSON");
        all["runs"][0].clone()
    }

    /// A column of a CSV file.
    #[track_caller]
    pub fn column(&self, file: &str, name: &str) -> Vec<String> {
        let mut reader = csv::Reader::from_path(self.path(file)).expect("a CSV file");
        let headers = reader.headers().expect("a line of headers");
        let index = headers.iter().position(|header| header == name);
        let index = index.unwrap_or_else(|| panic!("{file} has no column {name}"));
        let rows = reader.records().map(|row| row.expect("a whole row"));
        rows.map(|row| row[index].to_owned()).collect()
    }

    /// A column of numbers of a CSV file.
    #[track_caller]
    pub fn numbers(&self, file: &str, name: &str) -> Vec<f64> {
        let column = self.column(file, name);
        let parse = |text: &String| text.parse().expect("a number");
        column.iter().map(parse).collect()
    }

    /// The best weights of a run of [`TINY`] on the digits, through the library as a user would load them.
    pub fn weights(&self, run: &str) -> BTreeMap<String, Vec<f32>> {
        let vae = tiny().init(&Device::flex());
        let vae = vae.try_load_file(self.path(&format!("{run}/model.bpk")));
        parameters(&vae.expect("the weights of the tiny model"))
    }

    /// All numbers in a file of weights or of an optimiser's state, of `f32` alone, in their order there.
    #[track_caller]
    pub fn pack(&self, file: &str) -> Vec<f32> {
        let bytes = self.bytes(file);
        let numbers = bytes[first_number(&bytes)..].as_chunks().0;
        numbers.iter().copied().map(f32::from_le_bytes).collect()
    }

    /// Makes all numbers of a checkpoint's model, of `f32` alone, NaN, behind a checksum that is right.
    #[track_caller]
    pub fn spoil(&self, checkpoint: &str) {
        self.fill(checkpoint, f32::from_bits(u32::MAX));
    }

    /// Makes all numbers of a checkpoint's model, of `f32` alone, this one, behind a checksum that is right.
    #[track_caller]
    pub fn fill(&self, checkpoint: &str, number: f32) {
        let mut bytes = self.bytes(&format!("{checkpoint}/model.bpk"));
        let start = first_number(&bytes);
        let (numbers, rest) = bytes[start..].as_chunks_mut();
        assert!(rest.is_empty(), "{checkpoint} has numbers of other types");
        numbers.fill(number.to_le_bytes());
        self.replace_part(checkpoint, "model.bpk", bytes);
    }

    /// Checks that with weights that are no numbers nothing can be drawn of `run`, which is of no images.
    #[track_caller]
    pub fn draws_nothing(&self) {
        for epoch in self.saved("run") {
            self.spoil(&format!("run/checkpoint/{epoch}"));
        }
        for flags in ["", " --count 2", " --count 2 --output points"] {
            self.train(&format!("sample run{flags}"))
                .fails(1, &["weights", "model.bpk", "not all finite"]);
        }
        assert!(!self.path("points").exists());
    }

    /// Puts other bytes in the place of a checkpoint's part, as its manifest then says.
    pub fn replace_part(&self, checkpoint: &str, part: &str, bytes: Vec<u8>) {
        let (file, manifest) = (
            format!("{checkpoint}/{part}"),
            format!("{checkpoint}/manifest.json"),
        );
        let [was, is] =
            [&self.bytes(&file), &bytes].map(|bytes| crc32fast::hash(bytes).to_string());
        self.write(&manifest, self.text(&manifest).replace(&was, &is));
        self.write(&file, bytes);
    }

    /// All of a run's `metrics.csv` but the times: to the last digit, since floats are written so that
    /// they are read back.
    #[track_caller]
    pub fn metrics(&self, run: &str) -> Vec<Vec<String>> {
        [
            "epoch",
            "train_elbo",
            "train_reconstruction",
            "train_kl",
            "valid_elbo",
            "valid_reconstruction",
            "valid_kl",
            "valid_elbo_not_averaged",
            "gradient_norm",
            "clipped",
        ]
        .iter()
        .map(|name| self.column(&format!("{run}/metrics.csv"), name))
        .collect()
    }
}

/// Says on the terminal that the test which calls this cannot run here.
pub fn not_run(reason: &str) {
    let test = std::thread::current();
    let test = test.name().unwrap_or_default();
    // Not by a macro, whose words a test that passes keeps to itself.
    let words = format!("NOT RUN: {test}, since {reason}\n");
    let _ = io::stderr().write_all(words.as_bytes());
}

/// Where the numbers of a burnpack file begin: after the header and the description, at a multiple of 256.
fn first_number(bytes: &[u8]) -> usize {
    let size = u32::from_le_bytes(bytes[6..10].try_into().expect("a header"));
    (10 + size as usize).next_multiple_of(256).min(bytes.len())
}

/// A number of a JSON object.
#[track_caller]
pub fn number(row: &Value, name: &str) -> f64 {
    let number = row[name].as_f64();
    number.unwrap_or_else(|| panic!("{name} in {row}"))
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).expect("below the root").to_owned();
            files.insert(name, fs::read(&path).expect("a readable file"));
        }
    }
}
