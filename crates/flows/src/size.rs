use std::ops::Mul;

/// How large a flow is, about; in floating point, since what a user asks for may be absurd.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FlowSize {
    /// Numbers that are learned.
    pub weights: f64,
    /// Numbers that it takes at once for each point or context.
    pub at_once: f64,
}

impl FlowSize {
    /// Of layers of these widths, and of what is added to the second of them from a context.
    pub(crate) fn of_network(widths: &[usize], context: Option<usize>) -> Self {
        let widths: Vec<f64> = widths.iter().map(|&width| width as f64).collect();
        let layers: f64 = widths
            .windows(2)
            .map(|pair| (pair[0] + 1.0) * pair[1])
            .sum();
        Self {
            weights: layers + context.map_or(0.0, |context| context as f64 * widths[1]),
            at_once: widths.iter().fold(0.0, |most, width| width.max(most)),
        }
    }

    /// Of so many parameters, learned or predicted.
    pub(crate) fn of_parameters(numbers: f64, context: Option<usize>, hidden: &[usize]) -> Self {
        let weights = match context {
            None => numbers,
            Some(context) => {
                let widths = [&[context], hidden].concat();
                let head = (widths[widths.len() - 1] as f64 + 1.0) * numbers;
                Self::of_network(&widths, None).weights + head
            }
        };
        Self {
            weights,
            at_once: numbers,
        }
    }

    /// Of both, one after the other.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            weights: self.weights + other.weights,
            at_once: self.at_once.max(other.at_once),
        }
    }
}

/// So many layers of this, each with a part in what is at hand at once.
impl Mul<usize> for FlowSize {
    type Output = Self;

    fn mul(self, layers: usize) -> Self {
        Self {
            weights: self.weights * layers as f64,
            at_once: self.at_once * layers as f64,
        }
    }
}
