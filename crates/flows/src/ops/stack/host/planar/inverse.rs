//! A block of rows back through the layers, and its gradient.
//!
//! A layer is undone by z = y - û tanh a, where a is the root of a + (p - 1) tanh a = q with q = w·y + b, p = 1 + w·û.
//!
//! **Gradient.** It goes through the layers in their own order again, from z on, where y = z + û tanh a. The tanhs are kept:
//! of a rounded z, w·z + b is not a to its last digits where w is long. With g = ∂L/∂z, h = ∂L/∂log_det, t = tanh a and
//! det = t² + p (1 - t²), of which -ln is a layer's log-determinant, and da = (dq - t dp) / det by the implicit function
//! theorem, one layer hands back
//!
//! ```text
//! ∂L/∂a = (2 t (p - 1) h / det - g·û) (1 - t²)        ∂L/∂û = -Σ g t
//! ∂L/∂q = ∂L/∂a / det                                 ∂L/∂p = -Σ (t ∂L/∂q + (1 - t²) h / det)
//! ∂L/∂y = g + w ∂L/∂q                                 ∂L/∂w = Σ y ∂L/∂q,   ∂L/∂b = Σ ∂L/∂q
//! ```
//!
//! (sums over the rows).

#![allow(clippy::needless_range_loop)] // Lanes and layers go by their number.

use burn_host::math::tanh;

use super::{
    super::lanes::{
        Block, add_inner, add_outer, dot, gather, gather_full, scatter, sum, sum_of_logs,
    },
    Planar,
};
use crate::root::lanes::root;

impl Planar<'_> {
    /// A block in `L` lanes, with sums kept in `A` parts.
    #[inline(always)]
    pub fn inverse<const L: usize, const A: usize>(
        &self,
        y: &[f32],
        block: Block,
        packed: &mut Vec<f32>,
    ) {
        let mut y = gather::<L>(y, self.dim, self.dim, block);
        let mut dets = Vec::with_capacity(self.layers.len());
        let mut tanhs = vec![[0.0; L]; self.layers.len()];
        for (k, layer) in self.layers.iter().enumerate().rev() {
            let (u_hat, w) = self.vectors(k);
            let mut q = dot::<L, A>(w, &y);
            for lane in 0..L {
                q[lane] += layer.b;
            }
            let a = root(layer.one_plus_wu_hat, &q);
            let (t, mut minus_t) = (&mut tanhs[k], [0.0; L]);
            for lane in 0..L {
                t[lane] = tanh(a[lane]);
                minus_t[lane] = -t[lane];
            }
            add_outer(&mut y, u_hat, &minus_t);
            dets.push(layer.dets(t));
        }
        let log_det = sum_of_logs(dets);
        for lane in 0..block.count {
            scatter(&y, lane, packed);
            packed.push(-log_det[lane]);
            scatter(&tanhs, lane, packed);
        }
    }

    /// `known` is what the inverse came to, packed.
    #[inline(always)]
    pub fn inverse_gradients<const L: usize, const A: usize>(
        &self,
        known: &[f32],
        grad: &[f32],
        block: Block,
        (of_y, sums): (&mut Vec<f32>, &mut [f32]),
    ) {
        let dim = self.dim;
        let width = dim + 1 + self.layers.len();
        let mut z = gather_full::<L>(known, width, dim, block);
        let tanhs = gather_full::<L>(&known[dim + 1..], width, self.layers.len(), block);
        let mut g = gather::<L>(grad, width, dim, block);
        let h = gather::<L>(&grad[dim..], width, 1, block)[0];
        for (k, layer) in self.layers.iter().enumerate() {
            let (u_hat, w) = self.vectors(k);
            let (of_u_hat, of_w, of_scalars) = self.of_layer(sums, k);

            let t = &tanhs[k];
            // From here on y of this layer.
            add_outer(&mut z, u_hat, t);
            let mut of_q = dot::<L, A>(u_hat, &g);
            let (mut of_p, mut minus_t) = ([0.0; L], [0.0; L]);
            for lane in 0..L {
                let t = t[lane];
                let slope = 1.0 - t * t;
                let det = layer.det(t);
                let h = h[lane] / det;
                let of_a = (2.0 * t * (layer.one_plus_wu_hat - 1.0) * h - of_q[lane]) * slope;
                of_q[lane] = of_a / det;
                of_p[lane] = -t * of_q[lane] - slope * h;
                minus_t[lane] = -t;
            }
            of_scalars[0] += sum(of_q);
            of_scalars[1] += sum(of_p);
            add_inner(of_u_hat, &g, &minus_t);
            add_inner(of_w, &z, &of_q);
            add_outer(&mut g, w, &of_q);
        }
        for lane in 0..block.count {
            scatter(&g, lane, of_y);
        }
    }
}
