//! What a run is of: a kind of model, what it learns from, and how it is scored.
//!
//! All around it, from the run folder to the learner, asks a [`Task`] for what differs, and knows no kind of model.

use std::{fmt, ops::Range, sync::Arc};

use anyhow::Result;
use burn::{
    data::dataset::Dataset,
    module::{Module, ModuleDisplay, ParamGroup},
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    config::Training,
    learn::{
        loader::{Batch, Batcher, Role},
        optimizer::OptimizerName,
        rate::Rate,
        watch::Watch,
    },
    run::{RunDir, trained::Trained},
};

/// The kinds of runs, as `config.json` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskName {
    Vae,
    Density,
    Energy,
}

impl TaskName {
    /// The command that trains it.
    pub fn command(self) -> &'static str {
        match self {
            Self::Vae => "train",
            Self::Density => "train density",
            Self::Energy => "train energy",
        }
    }

    /// The same, as one types it in this repository.
    pub fn cargo_command(self) -> &'static str {
        match self {
            Self::Vae => "cargo run -p train --",
            Self::Density => "cargo run -p train -- density",
            Self::Energy => "cargo run -p train -- energy",
        }
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.command())
    }
}

/// Everything that decides what a run computes, and where.
pub trait Settings: Clone + PartialEq + fmt::Debug + Serialize + DeserializeOwned {
    const TASK: TaskName;

    fn training(&self) -> &Training;
    fn training_mut(&mut self) -> &mut Training;

    /// The learning rate where none is given.
    fn usual_lr(optimizer: OptimizerName) -> f64 {
        optimizer.lr()
    }

    /// The updates over which it rises where nothing else is asked for.
    fn usual_lr_warm_up(optimizer: OptimizerName) -> usize {
        optimizer.lr_warm_up()
    }

    /// The seeds of several fits, each in a folder of its own in the run's; none where it is one.
    fn seeds(&self) -> Option<Range<u64>> {
        None
    }

    /// Those of the fit with this seed.
    fn of_seed(&self, seed: u64) -> Self {
        let mut fit = self.clone();
        fit.training_mut().seed = seed;
        fit
    }

    /// What a new run folder is called, before its number.
    fn short_name(&self) -> String;

    /// Makes them what they are from whatever folder they are used, with numbers as their file will have them.
    ///
    /// # Errors
    ///
    /// When the current folder is not known, or a path cannot be saved.
    fn make_saved(&mut self) -> Result<()>;
}

/// What the data sets of a task have.
pub type Item<T> = <<T as Task>::Batcher as Batcher>::Item;

/// Settings and what they name: data, or a function to learn from.
pub trait Task: Clone {
    type Settings: Settings;
    type Model: Model;
    /// What makes batches of the items of its data set.
    type Batcher: Batcher<Batch = <Self::Model as Model>::Batch>;

    /// # Errors
    ///
    /// When what the settings name cannot be had, or they ask for what cannot be.
    fn open(settings: Self::Settings) -> Result<Self>;

    fn settings(&self) -> &Self::Settings;
    fn settings_mut(&mut self) -> &mut Self::Settings;

    /// Of the model and its data, in a sentence's middle.
    fn describe(&self) -> String;

    /// What tells data from other data, as checkpoints remember it.
    fn fingerprint(&self) -> String;

    /// A model with random weights from the device's generator.
    fn model(&self, device: &Device) -> Self::Model;

    /// What an epoch goes through.
    fn dataset(&self, role: Role) -> Arc<dyn Dataset<Item<Self>>>;

    fn batcher(&self, role: Role) -> Self::Batcher;

    /// What tells that training diverges.
    fn watch(&self) -> Watch;

    /// Parameters with a rate of their own, and what it is, as a multiple.
    fn own_rate(&self) -> Option<(ParamGroup, f64)> {
        None
    }

    /// Leaves pictures of the best model in its folder, and what it takes to use its weights, and says so.
    ///
    /// # Errors
    ///
    /// When the device fails or the folder cannot be written.
    fn draw(run: &RunDir, trained: &Trained<Self>) -> Result<()>;

    /// The updates of an epoch.
    fn steps(&self) -> usize {
        let items = self.dataset(Role::Train).len();
        items.div_ceil(self.settings().training().batch_size.get())
    }

    /// The learning rate over the whole training.
    fn rate(&self) -> Rate {
        let training = self.settings().training();
        let updates = training.epochs.get().saturating_mul(self.steps());
        Rate::new(training.lr, training.schedule, training.lr_warm_up, updates)
    }
}

/// A model that the learner can train.
pub trait Model: Module + ModuleDisplay + 'static {
    type Batch: Batch;

    const MEASURED: &'static Measured;

    fn score(&self, batch: Self::Batch) -> Score;
}

/// What is measured of a kind of model: means over the items of a split, in nats.
#[derive(Debug, PartialEq, Eq)]
pub struct Measured {
    /// What a batch is of.
    pub item: &'static str,
    /// What to do when training diverges.
    pub advice: &'static str,
    /// What is maximised comes first.
    pub terms: &'static [Term],
}

#[derive(Debug, PartialEq, Eq)]
pub struct Term {
    /// As it is shown.
    pub name: &'static str,
    /// As columns have it.
    pub column: &'static str,
    pub higher_is_better: bool,
}

/// What a batch comes to.
pub struct Score {
    /// The mean of each of [`Measured::terms`], `[1]`.
    pub terms: Vec<Tensor<1>>,
    /// What is minimised, `[1]`.
    pub loss: Tensor<1>,
    /// Whether it is the first term that is being maximised, and nothing annealed.
    pub maximised: bool,
    pub items: usize,
}
