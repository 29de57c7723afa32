//! Files that somebody broke on purpose, through every reader: no panic, and no more memory than the file pays for.
//!
//! Good files are changed in a few places each: that gets further than noise. 2,000 of each kind by default; for a long
//! run `PROPTEST_CASES=1000000 cargo test --workspace --bin train hostile`. What broke a reader once stands as a test of
//! its own.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use burn::{
    module::{Module, ParamGroup},
    optim::{
        ModuleOptimizer, OptimizerRecord,
        lr_scheduler::{LrSchedulerRecord, module_lr_scheduler::ModuleLrScheduler},
    },
    store::ModuleRecord,
    tensor::{Bytes, Device},
    train::{TrainStep, checkpoint::Checkpointer},
};
use flow_vae::{Annealing, Vae};
use proptest::{collection::vec, prelude::*, sample::Index, test_runner::TestRunner};

use crate::{
    config,
    data::{self, Binarization, DatasetName, Images},
    flow::{FlowName, FlowSettings},
    heap::peak,
    learn::{
        learner::Trainee,
        loader::{Batcher, Role, StepNumber},
        rate::{Rate, Schedule},
        watch::Watch,
    },
    run::{
        RunDir,
        checkpoint::{self, Origin, Part, PartFiles},
        history::{EpochRow, History},
        pack,
    },
    task::Task,
    vae::{ImageBatcher, MEASURED, VaeSettings, VaeTask, report},
};

/// What every reader may hold beside what the file pays for.
const SLACK: usize = 256 << 10;

/// One change of a file.
#[derive(Clone, Debug)]
enum Change {
    FlipBit(Index, u8),
    Byte(Index, u8),
    /// A number of this many bytes, one way round or the other.
    Number(Index, u64, usize, bool),
    Cut(Index),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    /// A part of the file once more, somewhere else.
    Copy(Index, usize, Index),
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        if file.is_empty() {
            return;
        }
        let (size, place) = (file.len(), |index: &Index| index.index(file.len()));
        match self {
            Self::FlipBit(at, bit) => {
                let at = place(at);
                file[at] ^= 1 << bit;
            }
            Self::Byte(at, byte) => {
                let at = place(at);
                file[at] = *byte;
            }
            Self::Number(at, number, width, big) => {
                let at = place(at);
                let bytes = number.to_le_bytes();
                for i in 0..(*width).min(size - at) {
                    file[at + i] = bytes[if *big { width - 1 - i } else { i }];
                }
            }
            Self::Cut(at) => {
                let at = place(at);
                file.truncate(at);
            }
            Self::Remove(at, count) => {
                let at = place(at);
                file.drain(at..(at + count).min(size));
            }
            Self::Insert(at, bytes) => {
                let at = place(at);
                file.splice(at..at, bytes.iter().copied());
            }
            Self::Copy(from, count, to) => {
                let (from, to) = (place(from), place(to));
                let part = file[from..(from + count).min(size)].to_vec();
                file.splice(to..to, part);
            }
        }
    }
}

/// Changes of a file, its first `head` bytes more often than the rest; `words` are what its format knows.
fn changes(words: &'static [&'static str]) -> impl Strategy<Value = Vec<Change>> {
    let at = any::<Index>;
    let telling = || {
        prop_oneof![
            Just(0),
            Just(1),
            Just(u64::MAX),
            Just(1 << 31),
            Just(1 << 32),
            any::<u64>(),
            0..1000_u64
        ]
    };
    let change = prop_oneof![
        3 => (at(), 0..8_u8).prop_map(|(at, bit)| Change::FlipBit(at, bit)),
        2 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        2 => (at(), telling(), prop_oneof![Just(2_usize), Just(4), Just(8)], any::<bool>())
            .prop_map(|(at, number, width, big)| Change::Number(at, number, width, big)),
        1 => at().prop_map(Change::Cut),
        1 => (at(), 1..64_usize).prop_map(|(at, count)| Change::Remove(at, count)),
        2 => (at(), proptest::sample::select(words)).prop_map(|(at, word)| Change::Insert(at, word.into())),
        1 => (at(), vec(any::<u8>(), 1..16)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (at(), 1..64_usize, at()).prop_map(|(from, count, to)| Change::Copy(from, count, to)),
    ];
    vec(change, 1..5)
}

/// Gives `read` many versions of the file `path`, each of whose first `head` bytes are changed, or all of it; it returns
/// the most memory that it may hold.
pub fn attack(path: &Path, head: usize, words: &'static [&'static str], read: impl Fn() -> usize) {
    let good = fs::read(path).unwrap();
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 2_000;
    }
    config.failure_persistence = None;
    let input = (changes(words), prop::bool::weighted(0.7));
    TestRunner::new(config)
        .run(&input, |(changes, in_head)| {
            let mut bad = good.clone();
            let tail = bad.split_off(if in_head {
                head.min(good.len())
            } else {
                good.len()
            });
            changes.iter().for_each(|change| change.apply(&mut bad));
            bad.extend(tail);
            fs::write(path, &bad).unwrap();
            let (held, most) = peak(&read);
            prop_assert!(
                held <= most + SLACK,
                "{held} bytes for a file of {}",
                bad.len()
            );
            Ok(())
        })
        .unwrap();
    fs::write(path, good).unwrap();
    read();
}

/// The bytes that a file pays for: its own, or as many as deflate makes of them at most where its first two, whatever its name, say
/// that it is gzipped.
pub fn paid(path: &Path) -> usize {
    let file = fs::read(path).unwrap();
    match file.starts_with(&[0x1f, 0x8b]) {
        true => 1032 * file.len(),
        false => file.len(),
    }
}

/// A folder of 60 and 20 images of 8 x 8 pixels, the training images as `pack` packs them.
fn image_folder(pack: impl Fn(&[u8]) -> Vec<u8>, name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = |count: u32| {
        let header = [0x0803, count, 8, 8].into_iter().flat_map(u32::to_be_bytes);
        header
            .chain((0..64 * count).map(|i| (i * 97 / 64) as u8))
            .collect::<Vec<u8>>()
    };
    fs::write(folder.path().join(name), pack(&file(60))).unwrap();
    fs::write(folder.path().join("t10k-images-idx3-ubyte"), file(20)).unwrap();
    folder
}

#[test]
fn image_files() {
    let name = "train-images-idx3-ubyte";
    let folder = image_folder(<[u8]>::to_vec, name);
    let path = folder.path().join(name);
    let dataset = DatasetName::Folder(folder.path().into());
    attack(&path, 16, &["\0\0\u{8}\u{3}", "\u{1f}"], || {
        let _ = data::load(&dataset, None);
        paid(&path)
    });
}

/// With all that a header may have.
pub fn gzip(file: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::GzBuilder::new()
        .filename("a name")
        .extra("more")
        .write(Vec::new(), flate2::Compression::fast());
    gzip.write_all(file).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn gzipped_image_files() {
    let name = "train-images-idx3-ubyte.gz";
    let folder = image_folder(gzip, name);
    let path = folder.path().join(name);
    let dataset = DatasetName::Folder(folder.path().into());
    attack(&path, 48, &["\u{1f}", "\0\0\0"], || {
        let _ = data::load(&dataset, None);
        paid(&path)
    });
}

/// A folder of three, two and one binarised images, as `pack` packs their texts into files of names with `end` added.
fn binarized_folder(pack: impl Fn(&[u8]) -> Vec<u8>, end: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (part, lines) in [("train", 3), ("valid", 2), ("test", 1)] {
        let line = "0 1 1 ".repeat(261) + "0\n";
        let name = format!("binarized_mnist_{part}.amat{end}");
        let text = pack(line.repeat(lines).as_bytes());
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// A folder of CIFAR-10's layout with three and two images, the training images as `pack` packs them.
fn cifar_folder(pack: impl Fn(&[u8]) -> Vec<u8>, name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = |count: usize| {
        (0..count * 3073)
            .map(|i| (i % 3073 / 31 % 10) as u8)
            .collect::<Vec<u8>>()
    };
    fs::write(folder.path().join(name), pack(&file(3))).unwrap();
    fs::write(folder.path().join("test_batch.bin"), file(2)).unwrap();
    folder
}

#[test]
fn binarized_files() {
    let words = &["\n", "\r\n", " ", "0 ", "1", "2", "0.5", "-0", "NaN"];
    for (zipped, end) in [(false, ""), (true, ".gz")] {
        let pack = |text: &[u8]| match zipped {
            true => gzip(text),
            false => text.to_vec(),
        };
        let folder = binarized_folder(pack, end);
        let path = folder
            .path()
            .join(format!("binarized_mnist_train.amat{end}"));
        attack(&path, 48, words, || {
            let _ = data::load(&DatasetName::Mnist, Some(folder.path()));
            // Of text a half is pixels, which are held twice and a half while they grow.
            3 * paid(&path) / 2
        });
    }
}

#[test]
fn cifar_files() {
    let name = "data_batch_1.bin";
    let folder = cifar_folder(<[u8]>::to_vec, name);
    let path = folder.path().join(name);
    attack(&path, 16, &["\0", "\u{1f}"], || {
        let _ = data::load(&DatasetName::Cifar10Patches, Some(folder.path()));
        paid(&path)
    });
}

#[test]
fn gzipped_cifar_files() {
    let name = "data_batch_1.bin.gz";
    let folder = cifar_folder(gzip, name);
    let path = folder.path().join(name);
    attack(&path, 48, &["\u{1f}", "\0\0\0"], || {
        let _ = data::load(&DatasetName::Cifar10Patches, Some(folder.path()));
        paid(&path)
    });
}

#[test]
fn configurations() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    fs::write(&path, config::to_json(&VaeSettings::default())).unwrap();
    let words = &[
        "-",
        "0",
        "9999999999999999999999",
        "1e999",
        "null",
        "\"",
        "\\u0000",
        "[",
        "{",
        "}",
        ",",
        "maxout:",
        "kl-warm-up:",
        "18446744073709551615",
        "../",
        "\u{feff}",
    ];
    attack(&path, usize::MAX, words, || {
        if let Ok(config) = config::load::<VaeSettings>(&path) {
            let _ = config.validate(64);
        }
        64 * fs::metadata(&path).unwrap().len() as usize
    });
}

#[test]
fn metrics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.csv");
    let mut history = History::load(&path, MEASURED).unwrap();
    for epoch in 1..6 {
        let elbo = -30.0 + epoch as f64;
        history
            .push(EpochRow {
                epoch,
                valid: vec![elbo, 0.0, 0.0],
                ..EpochRow::empty(MEASURED)
            })
            .unwrap();
    }
    let words = &[
        "\n",
        ",",
        "\"",
        "NaN",
        "-inf",
        "1e999",
        "-",
        "\r",
        "18446744073709551615",
        "epoch",
    ];
    attack(&path, usize::MAX, words, || {
        if let Ok(history) = History::load(&path, MEASURED) {
            let _ = (history.best_of(|_| true), history.seconds());
        }
        64 * fs::metadata(&path).unwrap().len() as usize
    });
}

/// A tiny model, its optimiser and its learning rates after an update, and what goes on from their files.
struct Tiny {
    settings: VaeSettings,
    device: Device,
    folder: tempfile::TempDir,
}

impl Tiny {
    fn new() -> Self {
        let size = |n: usize| n.try_into().unwrap();
        let settings = VaeSettings {
            // Of all families it saves the most kinds of numbers.
            flow: FlowSettings::new(FlowName::Nice, 2),
            latent_dim: size(3),
            hidden: vec![size(4)],
            ..VaeSettings::default()
        };
        // Of the backend, since what is loaded is put on Burn's default device first.
        let device = settings.training.backend.device().unwrap().autodiff();
        let folder = tempfile::tempdir().unwrap();
        let tiny = Self {
            settings,
            device,
            folder,
        };
        let (model, mut optimizer) = (tiny.model(), tiny.settings.training.init_optimizer());
        let mut rates = tiny.rates();
        let model = tiny.update(model, &mut optimizer, &mut rates);
        model.into_record().save(tiny.file(Part::Model)).unwrap();
        let file = tiny.file(Part::Optim);
        optimizer.to_record().save(file).unwrap();
        let file = tiny.file(Part::Scheduler);
        rates.to_record().save(file).unwrap();
        tiny
    }

    fn model(&self) -> Trainee<Vae> {
        let vae = self.settings.model(4).init(&self.device);
        Trainee::new(vae, 1, &self.device)
    }

    fn rates(&self) -> ModuleLrScheduler {
        let flow = ParamGroup::from_predicate("model.flow");
        let rate = Rate::new(self.settings.training.lr, Schedule::Cosine, 0, 100);
        rate.scheduler(Some((flow, self.settings.flow_lr)))
    }

    fn file(&self, part: Part) -> PathBuf {
        self.folder.path().join(part.file_name())
    }

    fn update(
        &self,
        model: Trainee<Vae>,
        optimizer: &mut ModuleOptimizer,
        rates: &mut ModuleLrScheduler,
    ) -> Trainee<Vae> {
        let at = StepNumber {
            epoch: 1,
            step: 1,
            steps: 2,
            items: 1,
        };
        let images = Images::new(2, vec![255; 8]);
        let batcher = ImageBatcher {
            pixels: images.pixels_per_image(),
            binarization: Some(Binarization::Static),
            latent_dim: 3,
            seed: 0,
            samples: 1,
            anneal: Annealing::None,
        };
        let batch = batcher.batch(
            vec![images.image(0), images.image(1)],
            Role::Train,
            at,
            &self.device,
        );
        let gradients = TrainStep::step(&model, batch).grads;
        model.optimize(optimizer, rates.step(), gradients)
    }

    /// What `train --resume` does with files whose checksums are right.
    fn resume(&self, fresh: &Trainee<Vae>) -> anyhow::Result<()> {
        let [model, optimizer, scheduler] = Part::ALL
            .map(|part| Bytes::from_bytes_vec(fs::read(self.file(part)).unwrap()).shared());
        // The smallest first: what is refused costs the least.
        pack::check_scheduler(scheduler.clone())?;
        let record = LrSchedulerRecord::from_bytes(scheduler)?;
        let mut rates = self.rates().load_record(record);
        pack::check_model(model.clone())?;
        pack::check_optimizer(optimizer.clone(), model.clone())?;
        let record = OptimizerRecord::from_bytes(optimizer)?;
        let mut optimizer = self.settings.training.init_optimizer().load_record(record);
        let loaded = fresh
            .clone()
            .try_load_record(ModuleRecord::from_bytes(model)?)?;
        self.update(loaded, &mut optimizer, &mut rates);
        Ok(())
    }

    fn attack(&self, part: Part) {
        let file = self.file(part);
        let good = fs::read(&file).unwrap();
        // The header says how many bytes of metadata follow its ten.
        let head = 10 + u32::from_le_bytes(good[6..10].try_into().unwrap()) as usize;
        let words = &[
            "I32", "F64", "QFloat", "U8", "Bool", "eF16", "param_id", "shape", "__rank", ".",
            "iscalars",
        ];
        let fresh = self.model();
        self.resume(&fresh).unwrap();
        attack(&file, head, words, || {
            let _ = self.resume(&fresh);
            // What a list of sizes promises, serde believes up to a MiB.
            16 * good.len() + (1 << 20)
        });
    }
}

/// One byte each, where Burn's loaders panic (types, no parameter) or leave something out in silence (the rest).
#[test]
fn what_was_not_noticed_once() {
    let tiny = Tiny::new();
    let fresh = tiny.model();
    for (part, was, is) in [
        (Part::Model, "F32", "I32"),
        (Part::Optim, "F32", "I32"),
        (Part::Optim, "param_id", "param_ie"),
        (Part::Optim, "__rank", "__rink"),
        (Part::Optim, "moment_1", "moment_3"),
        (Part::Optim, ".time", ".tide"),
        (Part::Scheduler, "done", "dome"),
    ] {
        let good = fs::read(tiny.file(part)).unwrap();
        let mut bad = good.clone();
        let at = good
            .windows(was.len())
            .position(|part| part == was.as_bytes());
        bad[at.unwrap()..][..is.len()].copy_from_slice(is.as_bytes());
        fs::write(tiny.file(part), bad).unwrap();
        assert!(tiny.resume(&fresh).is_err(), "{is} for {was}");
        fs::write(tiny.file(part), good).unwrap();
        tiny.resume(&fresh).unwrap();
    }
}

#[test]
fn weights() {
    Tiny::new().attack(Part::Model);
}

#[test]
fn optimizer_states() {
    Tiny::new().attack(Part::Optim);
}

#[test]
fn schedules() {
    Tiny::new().attack(Part::Scheduler);
}

#[test]
fn manifests() {
    let folder = tempfile::tempdir().unwrap();
    let settings = VaeSettings::default();
    let run = RunDir::create(Some(&folder.path().join("run")), &settings).unwrap();
    let origin = Origin::of(&VaeTask::open(settings).unwrap());
    let history = History::load(&run.metrics_file(), MEASURED).unwrap();
    let history = Arc::new(Mutex::new(history));
    history
        .lock()
        .unwrap()
        .push(EpochRow {
            epoch: 1,
            ..EpochRow::empty(MEASURED)
        })
        .unwrap();
    checkpoint::prepare(&run).unwrap();
    let watch = || Watch::new(30.0, 100);
    let seen = watch();
    seen.see(-30.25, 1, 1, true);
    seen.end(1);
    for part in PartFiles::new(&run, origin.clone(), history, seen) {
        part.save(1, LrSchedulerRecord::new()).unwrap();
    }
    let manifest = run.checkpoint(1).join("manifest.json");
    let words = &[
        "-",
        "0",
        "9999999999999999999999",
        "1e999",
        "null",
        "\"",
        "[",
        "{",
        "}",
        ",",
        "model",
        "optim",
        "../",
    ];
    attack(&manifest, usize::MAX, words, || {
        for part in Part::ALL {
            let _ = checkpoint::read(&run, 1, part, &origin);
        }
        let _ = checkpoint::watch_after(&run, 1, watch());
        64 * fs::metadata(&manifest).unwrap().len() as usize
    });
}

/// What `train report` reads of a run.
#[test]
fn reported_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let run = RunDir::create(Some(&path), &VaeSettings::default()).unwrap();
    let mut history = History::load(&run.metrics_file(), MEASURED).unwrap();
    for epoch in 1..4 {
        let elbo = -30.0 + epoch as f64;
        let row = EpochRow {
            epoch,
            valid: vec![elbo, 0.0, 0.0],
            ..EpochRow::empty(MEASURED)
        };
        history.push(row).unwrap();
    }
    let row = "3,digits,test,dynamic,crc32:00000000,250,50,0,-24.5,0.2,-20.5,0.2,4.5,0.1,24.25,0.2,0.25,0.01,flex,1.5\n";
    let header = "epoch,dataset,split,binarization,draw,images,samples,noise_seed,elbo,elbo_se,reconstruction,\
                  reconstruction_se,kl,kl_se,nll,nll_se,gap,gap_se,backend,seconds\n";
    run.write("evaluations.csv", format!("{header}{row}{row}").as_bytes())
        .unwrap();
    let words = &[
        "\n",
        ",",
        "\"",
        "NaN",
        "-inf",
        "1e308",
        "-1e308",
        "-",
        "18446744073709551615",
        "0",
        "valid",
        "<",
    ];
    let paths = [path.clone()];
    let report = || {
        let runs = report::run::read_all(&paths)?;
        report::files(&report::table::Table::new(&runs))
    };
    report().unwrap();
    for file in [run.metrics_file(), path.join("evaluations.csv")] {
        attack(&file, usize::MAX, words, || {
            let _ = report();
            64 * fs::metadata(&file).unwrap().len() as usize
        });
    }
}
