//! `train density`: a flow fitted to points, by maximum likelihood.

pub mod evaluate;
pub mod log_prob;
pub mod sample;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use burn::{
    data::dataset::Dataset,
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use burn_flows::{DiagonalGaussian, Flow, FlowDistribution};
use serde::{Deserialize, Serialize};

use crate::{
    config::Training,
    flow::{FlowName, FlowSettings},
    learn::{
        loader::{Batch, Batcher, Role, StepNumber},
        optimizer::OptimizerName,
        watch::Watch,
    },
    points::{self, BuiltIn, Point, PointSplits, Points, PointsName},
    run::{RunDir, trained::Trained},
    task::{Measured, Model, Score, Settings, Task, TaskName, Term},
    terminal::warn,
};

/// How far the log-density of a point may fall below its best before training has diverged, in each dimension: from the
/// density of something a thousandth as wide as the data to that of the data.
const RANGE: f64 = 7.0;

/// Everything that decides what a run computes, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DensitySettings {
    pub points: PointsName,
    /// Those that are fitted; none for all but the context's.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// Those that are given.
    #[serde(default)]
    pub context: Vec<String>,
    #[serde(flatten)]
    pub flow: FlowSettings,
    #[serde(flatten)]
    pub training: Training,
}

impl DensitySettings {
    /// The defaults for a set of points, a flow and an optimiser.
    pub fn new(points: PointsName, flow: FlowSettings, optimizer: OptimizerName) -> Self {
        Self {
            points,
            columns: None,
            context: Vec::new(),
            flow,
            training: Training::new::<Self>(100, 250, optimizer),
        }
    }
}

impl Default for DensitySettings {
    /// Of two moons, with six couplings by splines and Adam.
    fn default() -> Self {
        let points = PointsName::BuiltIn(BuiltIn::TwoMoons);
        let flow = FlowSettings::new(FlowName::Spline, 6);
        Self::new(points, flow, OptimizerName::Adam)
    }
}

impl Settings for DensitySettings {
    const TASK: TaskName = TaskName::Density;

    fn training(&self) -> &Training {
        &self.training
    }

    fn training_mut(&mut self) -> &mut Training {
        &mut self.training
    }

    fn short_name(&self) -> String {
        self.points.short_name()
    }

    fn make_saved(&mut self) -> Result<()> {
        let points = self.points.clone().absolute();
        self.points = points.context("cannot tell where the points are from any other folder")?;
        if let PointsName::File(path) = &self.points {
            ensure!(
                path.to_str().is_some(),
                "--points {}: config.json holds no path that is not UTF-8; give the file another name, or a link",
                path.display()
            );
        }
        self.training.make_saved();
        Ok(())
    }
}

/// A flow and its points.
#[derive(Clone)]
pub struct DensityTask {
    settings: DensitySettings,
    pub points: PointSplits,
}

impl DensityTask {
    fn context_dim(&self) -> Option<usize> {
        Some(self.points.train.context_dim()).filter(|&numbers| numbers > 0)
    }
}

impl Task for DensityTask {
    type Settings = DensitySettings;
    type Model = Density;
    type Batcher = PointBatcher;

    fn open(settings: DensitySettings) -> Result<Self> {
        settings.training.validate([1.0; 2])?;
        ensure!(
            settings.flow.layers > 0,
            "--layers 0: a density without layers has nothing to learn; the Gaussian is what `train evaluate` compares with"
        );
        let points = points::load(
            &settings.points,
            settings.columns.as_deref(),
            &settings.context,
        )?;
        for warning in points.warnings() {
            warn(format_args!("warning: {}: {warning}", settings.points));
        }
        let task = Self { settings, points };
        let dim = task.points.train.dim();
        (task.settings.flow).validate(
            dim,
            task.context_dim(),
            0.0,
            "--layers and the flags of --flow",
        )?;
        Ok(task)
    }

    fn settings(&self) -> &DensitySettings {
        &self.settings
    }

    fn settings_mut(&mut self) -> &mut DensitySettings {
        &mut self.settings
    }

    fn describe(&self) -> String {
        let PointSplits {
            train, valid, test, ..
        } = &self.points;
        let given = match train.context_dim() {
            0 => String::new(),
            numbers => format!(" given {numbers}"),
        };
        let header = match self.points.has_names {
            true => "",
            false => " without a header",
        };
        format!(
            "{} ({} training, {} validation and {} test points of {} columns{given}{header}), {} with K = {}",
            self.settings.points,
            train.len(),
            valid.len(),
            test.len(),
            train.dim(),
            self.settings.flow.flow.name(),
            self.settings.flow.layers
        )
    }

    fn fingerprint(&self) -> String {
        let PointSplits {
            train, valid, test, ..
        } = &self.points;
        let counts = [train, valid, test].map(Points::len);
        let crc32 = self.points.fingerprint();
        format!(
            "{counts:?} points of {} + {} columns with the checksum {crc32:08x}",
            train.dim(),
            train.context_dim()
        )
    }

    fn model(&self, device: &Device) -> Density {
        let dim = self.points.train.dim();
        let flow = self.settings.flow.config(dim);
        let flow = match self.context_dim() {
            Some(numbers) => flow.with_context(numbers),
            None => flow,
        };
        Density {
            flow: flow.init(device),
            dim,
            log_det: self.points.standardization.log_det(),
        }
    }

    fn dataset(&self, role: Role) -> Arc<dyn Dataset<Point>> {
        Arc::new(match role {
            Role::Train => self.points.train.clone(),
            Role::Valid => self.points.valid.clone(),
        })
    }

    fn batcher(&self, _: Role) -> PointBatcher {
        PointBatcher
    }

    fn watch(&self) -> Watch {
        let range = RANGE * self.points.train.dim() as f64;
        Watch::new(range, self.settings.training.batch_size.get())
    }

    fn draw(run: &RunDir, trained: &Trained<Self>) -> Result<()> {
        sample::draw(run, trained)
    }
}

/// The density of points, perhaps given a context: a flow on a standard Gaussian.
#[derive(Module, Debug)]
pub struct Density {
    flow: Flow,
    #[module(skip)]
    dim: usize,
    /// ln |det| of the map from the points that it sees to the user's.
    #[module(skip)]
    log_det: f64,
}

impl Density {
    /// Of points as the model sees them, given `context: [batch, width]`.
    pub fn distribution(&self, context: Option<Tensor<2>>, device: &Device) -> FlowDistribution {
        let base = DiagonalGaussian::standard(self.dim, device);
        self.flow.distribution(base, context)
    }

    /// ln p of points as the model sees them, `[batch]` in nats of the user's units.
    pub fn log_prob(&self, points: Tensor<2>, context: Option<Tensor<2>>) -> Tensor<1> {
        let distribution = self.distribution(context, &points.device());
        distribution.log_prob(points).sub_scalar(self.log_det)
    }
}

/// What maximum likelihood maximises.
pub const MEASURED: &Measured = &Measured {
    item: "point",
    advice: "start anew with a longer --lr-warm-up, as 500, or a lower --lr, or another --flow: of points that lie far from \
             all others spline is not moved; and a logarithm or asinh brings them nearer",
    terms: &[Term {
        name: "log-likelihood",
        column: "log_likelihood",
        higher_is_better: true,
    }],
};

impl Model for Density {
    type Batch = PointBatch;

    const MEASURED: &'static Measured = MEASURED;

    fn score(&self, batch: PointBatch) -> Score {
        let [items, _] = batch.points.dims();
        let mean = self.log_prob(batch.points, batch.context).mean();
        Score {
            loss: mean.clone().neg(),
            maximised: true,
            terms: vec![mean],
            items,
        }
    }
}

#[derive(Clone, Debug)]
pub struct PointBatch {
    /// `[batch, dim]`
    points: Tensor<2>,
    /// `[batch, width]`
    context: Option<Tensor<2>>,
    at: StepNumber,
}

impl Batch for PointBatch {
    fn at(&self) -> StepNumber {
        self.at
    }
}

/// Puts points together as they are.
#[derive(Clone)]
pub struct PointBatcher;

impl Batcher for PointBatcher {
    type Item = Point;
    type Batch = PointBatch;

    fn batch(&self, items: Vec<Point>, _: Role, at: StepNumber, device: &Device) -> PointBatch {
        let (points, context) = tensors(&items, device);
        PointBatch {
            points,
            context,
            at,
        }
    }
}

/// Some points, one at least, `[n, dim]`, and their contexts, `[n, width]`, where they have any.
fn tensors(points: &[Point], device: &Device) -> (Tensor<2>, Option<Tensor<2>>) {
    let tensor = |of: fn(&Point) -> &[f32]| {
        let width = of(&points[0]).len();
        let numbers: Vec<f32> = points.iter().flat_map(of).copied().collect();
        (width > 0)
            .then(|| Tensor::from_data(TensorData::new(numbers, [points.len(), width]), device))
    };
    let context = tensor(|point| &point.context);
    let points = tensor(|point| &point.values).expect("a point has a number");
    (points, context)
}

impl Trained<DensityTask> {
    /// ln p of each of `points`, in nats of the user's units.
    ///
    /// # Errors
    ///
    /// When the device fails.
    pub fn log_probs(&self, points: &Points) -> Result<Vec<f64>> {
        let mut all = Vec::with_capacity(points.len());
        let at_once = self.at_once();
        for start in (0..points.len()).step_by(at_once) {
            let some = start..points.len().min(start + at_once);
            let (points, context) = tensors(&points.some(some), &self.device);
            let log_probs = self.model.log_prob(points, context);
            all.extend(log_probs.try_into_data()?.iter::<f64>());
        }
        Ok(all)
    }

    /// How many points are computed at once.
    fn at_once(&self) -> usize {
        let points = &self.task.points.train;
        let size = (self.task.settings.flow).size(points.dim(), self.task.context_dim());
        let numbers = size.of_point.max(size.of_context).max(points.dim() as f64);
        ((NUMBERS_AT_ONCE / numbers) as usize).clamp(1, POINTS_AT_ONCE)
    }
}

/// The most numbers that a tensor has, 32 MiB, and the most points: what a cache holds of them.
const NUMBERS_AT_ONCE: f64 = (1 << 23) as f64;
const POINTS_AT_ONCE: usize = 10_000;
