use std::ops::Mul;

/// How large a flow is, about; in floating point, since what a user asks for may be absurd.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FlowSize {
    /// Numbers that are learned, or drawn once as a rotation's.
    pub weights: f64,
    /// Numbers that it takes at once for each context.
    pub of_context: f64,
    /// Numbers that its widest part takes for each point.
    pub of_point: f64,
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
            of_context: context.map_or(0.0, |_| widths[1]),
            of_point: widths.iter().fold(0.0, |most, width| width.max(most)),
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
            of_context: numbers,
            of_point: 0.0,
        }
    }

    /// Of both, one after the other.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            weights: self.weights + other.weights,
            of_context: self.of_context + other.of_context,
            of_point: self.of_point.max(other.of_point),
        }
    }
}

/// So many layers of this.
impl Mul<usize> for FlowSize {
    type Output = Self;

    fn mul(self, layers: usize) -> Self {
        Self {
            weights: self.weights * layers as f64,
            of_context: self.of_context * layers as f64,
            of_point: self.of_point,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(weights: f64, of_context: f64, of_point: f64) -> FlowSize {
        FlowSize {
            weights,
            of_context,
            of_point,
        }
    }

    #[test]
    fn sizes_add_up_but_for_the_widest_part() {
        // (3 + 1) 8 + (8 + 1) 5 weights, and 2 · 8 on a context of two.
        let network = FlowSize::of_network(&[3, 8, 5], Some(2));
        assert_eq!(network, size(93.0, 8.0, 8.0));
        let alone = FlowSize::of_network(&[3, 8, 5], None);
        assert_eq!(alone, size(77.0, 0.0, 8.0));
        let learned = FlowSize::of_parameters(10.0, None, &[4]);
        assert_eq!(learned, size(10.0, 10.0, 0.0));
        // (2 + 1) 4 + (4 + 1) 10
        let predicted = FlowSize::of_parameters(10.0, Some(2), &[4]);
        assert_eq!(predicted, size(62.0, 10.0, 0.0));
        assert_eq!(network.and(learned), size(103.0, 18.0, 8.0));
        assert_eq!(learned.and(network), size(103.0, 18.0, 8.0));
        assert_eq!(network * 3, size(279.0, 24.0, 8.0));
    }
}
