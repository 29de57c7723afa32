//! A block of rows forward through the layers, and its gradient.
//!
//! With g = ∂L/∂y and h = ∂L/∂log_det one layer hands back
//!
//! ```text
//! ∂L/∂c = Qᵀ g                                            ∂L/∂R = Σ ∂L/∂c tᵀ, on and above the diagonal
//! ∂L/∂t = Rᵀ ∂L/∂c + 2 t (1 - P) h / det                  ∂L/∂P = Σ (1 - t²) h / det
//! ∂L/∂p = ∂L/∂t (1 - t²)                                  ∂L/∂R̃ = Σ ∂L/∂p vᵀ,   ∂L/∂b = Σ ∂L/∂p
//! ∂L/∂v = R̃ᵀ ∂L/∂p                                        ∂L/∂z = g + Q ∂L/∂v
//! ```
//!
//! (sums over the rows; vectors component by component).

#![allow(clippy::needless_range_loop)] // Lanes and layers go by their number.

use burn_host::math::tanh;

use super::{
    super::lanes::{Block, add, gather, gather_full, scatter, sum, sum_of_logs},
    Layer, Sylvester, add_upper, times, transposed_times,
};

impl Sylvester<'_> {
    /// A block in `L` lanes, with sums kept in `A` parts.
    #[inline(always)]
    pub fn forward<const L: usize, const A: usize>(
        &self,
        z: &[f32],
        block: Block,
        packed: &mut Vec<f32>,
    ) {
        let mut z = gather::<L>(z, self.dim, self.dim, block);
        let mut dets = Vec::with_capacity(self.layers() * self.width);
        for k in 0..self.layers() {
            let layer = self.layer(k);
            let t = layer.tanh(&self.basis.transposed::<L, A>(k, &z));
            layer.dets(&t, &mut dets);
            add(&mut z, &self.basis.apply::<L, A>(k, &times(layer.r, &t)));
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
        let mut seen = Vec::with_capacity(self.layers());
        for k in 0..self.layers() {
            let layer = self.layer(k);
            let v = self.basis.transposed::<L, A>(k, &z);
            let t = layer.tanh(&v);
            let c = times(layer.r, &t);
            let before = z.clone();
            add(&mut z, &self.basis.apply::<L, A>(k, &c));
            seen.push((before, v, t, c));
        }

        let mut g = gather::<L>(grad, dim + 1, dim, block);
        let h = gather::<L>(&grad[dim..], dim + 1, 1, block)[0];
        for (k, (z, v, t, c)) in seen.iter().enumerate().rev() {
            let layer = self.layer(k);
            let sums = self.sums_at(sums, k);
            let of_c = self
                .basis
                .apply_gradients::<L, A>(k, c, &g, sums.of_vectors);
            add_upper(sums.of_r, &of_c, t);
            let mut of_p = transposed_times(layer.r, &of_c);
            for i in 0..self.width {
                let mut of_one_plus_s = [0.0; L];
                for lane in 0..L {
                    let t = t[i][lane];
                    let slope = 1.0 - t * t;
                    let h = h[lane] / layer.det(i, t);
                    of_one_plus_s[lane] = slope * h;
                    let of_log_det = 2.0 * t * (1.0 - layer.one_plus_s[i]) * h;
                    of_p[i][lane] = (of_p[i][lane] + of_log_det) * slope;
                }
                sums.of_b[i] += sum(of_p[i]);
                sums.of_one_plus_s[i] += sum(of_one_plus_s);
            }
            add_upper(sums.of_r_tilde, &of_p, v);
            let of_v = transposed_times(layer.r_tilde, &of_p);
            add(
                &mut g,
                &self
                    .basis
                    .transposed_gradients::<L, A>(k, z, &of_v, sums.of_vectors),
            );
        }
        for lane in 0..block.count {
            scatter(&g, lane, of_z);
        }
    }
}

impl Layer<'_> {
    /// tanh(R̃ v + b)
    #[inline(always)]
    fn tanh<const L: usize>(&self, v: &[[f32; L]]) -> Vec<[f32; L]> {
        let mut t = times(self.r_tilde, v);
        for i in 0..t.len() {
            for lane in 0..L {
                t[i][lane] = tanh(t[i][lane] + self.b[i]);
            }
        }
        t
    }

    /// Appends det_i.
    #[inline(always)]
    pub fn dets<const L: usize>(&self, t: &[[f32; L]], dets: &mut Vec<[f32; L]>) {
        for i in 0..t.len() {
            let mut det = [0.0; L];
            for lane in 0..L {
                det[lane] = self.det(i, t[i][lane]);
            }
            dets.push(det);
        }
    }
}
