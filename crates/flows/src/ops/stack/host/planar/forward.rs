//! A block of rows forward through the layers, and its gradient.
//!
//! With g = ∂L/∂z' and h = ∂L/∂log_det, p = 1 + w·û and det = t² + p (1 - t²), one layer hands back
//!
//! ```text
//! ∂L/∂t = g·û + 2 t (1 - p) h / det        ∂L/∂û = Σ g t
//! ∂L/∂a = ∂L/∂t (1 - t²)                   ∂L/∂p = Σ (1 - t²) h / det
//! ∂L/∂z = g + w ∂L/∂a                      ∂L/∂w = Σ z ∂L/∂a,   ∂L/∂b = Σ ∂L/∂a
//! ```
//!
//! (sums over the rows).

#![allow(clippy::needless_range_loop)] // Lanes and layers go by their number.

use super::{
    super::lanes::{
        Block, add_inner, add_outer, dot, gather, gather_full, scatter, sum, sum_of_logs,
    },
    Planar,
};

impl Planar<'_> {
    /// A block in `L` lanes, with sums kept in `A` parts.
    #[inline(always)]
    pub fn forward<const L: usize, const A: usize>(
        &self,
        z: &[f32],
        block: Block,
        packed: &mut Vec<f32>,
    ) {
        let mut z = gather::<L>(z, self.dim, self.dim, block);
        let mut dets = Vec::with_capacity(self.layers.len());
        for (k, layer) in self.layers.iter().enumerate() {
            let (u_hat, w) = self.vectors(k);
            let t = layer.tanh::<L, A>(w, &z);
            add_outer(&mut z, u_hat, &t);
            dets.push(layer.dets(&t));
        }
        let log_det = sum_of_logs(dets);
        for lane in 0..block.count {
            scatter(&z, lane, packed);
            packed.push(log_det[lane]);
        }
    }

    #[inline(always)]
    pub fn forward_gradients<const L: usize, const A: usize>(
        &self,
        z: &[f32],
        grad: &[f32],
        block: Block,
        (of_z, sums): (&mut Vec<f32>, &mut [f32]),
    ) {
        let dim = self.dim;

        // Forward again, keeping what each layer saw.
        let mut z = gather_full::<L>(z, dim, dim, block);
        let mut before = Vec::with_capacity(self.layers.len() * dim);
        let mut tanhs = Vec::with_capacity(self.layers.len());
        for (k, layer) in self.layers.iter().enumerate() {
            let (u_hat, w) = self.vectors(k);
            before.extend_from_slice(&z);
            let t = layer.tanh::<L, A>(w, &z);
            add_outer(&mut z, u_hat, &t);
            tanhs.push(t);
        }

        let mut g = gather::<L>(grad, dim + 1, dim, block);
        let h = gather::<L>(&grad[dim..], dim + 1, 1, block)[0];
        for k in (0..self.layers.len()).rev() {
            let (layer, t) = (&self.layers[k], &tanhs[k]);
            let (u_hat, w) = self.vectors(k);
            let (of_u_hat, of_w, of_scalars) = self.of_layer(sums, k);

            let mut of_a = dot::<L, A>(u_hat, &g);
            let mut of_p = [0.0; L];
            for lane in 0..L {
                let t = t[lane];
                let slope = 1.0 - t * t;
                let h = h[lane] / layer.det(t);
                of_p[lane] = slope * h;
                of_a[lane] = (of_a[lane] + 2.0 * t * (1.0 - layer.one_plus_wu_hat) * h) * slope;
            }
            of_scalars[0] += sum(of_a);
            of_scalars[1] += sum(of_p);
            add_inner(of_u_hat, &g, t);
            add_inner(of_w, &before[k * dim..][..dim], &of_a);
            add_outer(&mut g, w, &of_a);
        }
        for lane in 0..block.count {
            scatter(&g, lane, of_z);
        }
    }
}
