//! A block of rows back through the layers, and its gradient.
//!
//! With w = Qᵀ y the middle of a layer is w = v + R tanh(R̃ v + b), solved from the last coordinate to the first by the roots
//! of `family::sylvester`; then z = y - Q c.
//!
//! **Gradient.** It goes through the layers in their own order again, from z on, where v = Qᵀ z and y = z + Q c. The tanhs are
//! kept, as in planar layers. p = b + R̃ (w - R tanh p) has the Jacobian A = I + R̃ R diag(1 - t²), which is upper triangular
//! with det_i on its diagonal. With g = ∂L/∂z and h = ∂L/∂log_det one layer hands back
//!
//! ```text
//! ∂L/∂c = -Qᵀ g                                           ∂L/∂P = -Σ (1 - t²) h / det
//! ∂L/∂t = Rᵀ ∂L/∂c - 2 t (1 - P) h / det                  Aᵀ λ = ∂L/∂t (1 - t²),   μ = R̃ᵀ λ = ∂L/∂w
//! ∂L/∂R = Σ (∂L/∂c - μ) tᵀ                                ∂L/∂R̃ = Σ λ vᵀ,   ∂L/∂b = Σ λ
//! ∂L/∂y = g + Q μ
//! ```
//!
//! (sums over the rows; vectors component by component). Row j of Aᵀ λ is λ_j det_j and, of what came before, (1 - t_j²)
//! times Σ_{k<j} R_kj μ_k + R_jj Σ_{i<j} R̃_ij λ_i: λ and μ follow from the first coordinate to the last.

#![allow(clippy::needless_range_loop)] // Lanes and layers go by their number.

use burn_host::math::tanh;

use super::{
    super::lanes::{Block, add, gather, gather_full, negated, scatter, sum, sum_of_logs},
    Layer, Sylvester, add_upper, times, transposed_times,
};
use crate::root::lanes::root;

impl Sylvester<'_> {
    /// A block in `L` lanes, with sums kept in `A` parts.
    #[inline(always)]
    pub fn inverse<const L: usize, const A: usize>(
        &self,
        y: &[f32],
        block: Block,
        packed: &mut Vec<f32>,
    ) {
        let mut y = gather::<L>(y, self.dim, self.dim, block);
        let mut dets = Vec::with_capacity(self.layers() * self.width);
        let mut tanhs = vec![[0.0; L]; self.layers() * self.width];
        for k in (0..self.layers()).rev() {
            let layer = self.layer(k);
            let t = layer.solve(&self.basis.transposed::<L, A>(k, &y));
            layer.dets(&t, &mut dets);
            add(
                &mut y,
                &self.basis.apply::<L, A>(k, &negated(&times(layer.r, &t))),
            );
            tanhs[k * self.width..][..self.width].copy_from_slice(&t);
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
        let (dim, m) = (self.dim, self.width);
        let width = dim + 1 + self.layers() * m;
        let mut z = gather_full::<L>(known, width, dim, block);
        let tanhs = gather_full::<L>(&known[dim + 1..], width, self.layers() * m, block);
        let mut g = gather::<L>(grad, width, dim, block);
        let h = gather::<L>(&grad[dim..], width, 1, block)[0];
        for k in 0..self.layers() {
            let layer = self.layer(k);
            let sums = self.sums_at(sums, k);
            let t = &tanhs[k * m..][..m];
            let v = self.basis.transposed::<L, A>(k, &z);
            let c = times(layer.r, t);
            // From here on y of this layer.
            add(&mut z, &self.basis.apply::<L, A>(k, &c));

            let minus_g = negated(&g);
            let mut of_c = self
                .basis
                .apply_gradients::<L, A>(k, &c, &minus_g, sums.of_vectors);
            let mut of_p = transposed_times(layer.r, &of_c);
            for i in 0..m {
                let mut of_one_plus_s = [0.0; L];
                for lane in 0..L {
                    let t = t[i][lane];
                    let slope = 1.0 - t * t;
                    let h = h[lane] / layer.det(i, t);
                    of_one_plus_s[lane] = -slope * h;
                    let of_log_det = -2.0 * t * (1.0 - layer.one_plus_s[i]) * h;
                    of_p[i][lane] = (of_p[i][lane] + of_log_det) * slope;
                }
                sums.of_one_plus_s[i] += sum(of_one_plus_s);
            }
            let (lambda, mu) = layer.adjoint(t, &of_p);
            for i in 0..m {
                sums.of_b[i] += sum(lambda[i]);
                for lane in 0..L {
                    of_c[i][lane] -= mu[i][lane];
                }
            }
            add_upper(sums.of_r, &of_c, t);
            add_upper(sums.of_r_tilde, &lambda, &v);
            add(
                &mut g,
                &self
                    .basis
                    .transposed_gradients::<L, A>(k, &z, &mu, sums.of_vectors),
            );
        }
        for lane in 0..block.count {
            scatter(&g, lane, of_y);
        }
    }
}

impl Layer<'_> {
    /// tanh p where `w = Qᵀ y`.
    #[inline(always)]
    fn solve<const L: usize>(&self, w: &[[f32; L]]) -> Vec<[f32; L]> {
        let m = w.len();
        let (mut t, mut v) = (vec![[0.0; L]; m], vec![[0.0; L]; m]);
        for i in (0..m).rev() {
            let (r, r_tilde) = (&self.r[i * m..][..m], &self.r_tilde[i * m..][..m]);
            let (mut rest, mut q) = (w[i], [self.b[i]; L]);
            for j in i + 1..m {
                for lane in 0..L {
                    rest[lane] -= r[j] * t[j][lane];
                    q[lane] += r_tilde[j] * v[j][lane];
                }
            }
            for lane in 0..L {
                q[lane] += r_tilde[i] * rest[lane];
            }
            let p = root(self.one_plus_s[i], &q);
            for lane in 0..L {
                t[i][lane] = tanh(p[lane]);
                v[i][lane] = rest[lane] - r[i] * t[i][lane];
            }
        }
        t
    }

    /// λ and μ.
    #[inline(always)]
    fn adjoint<const L: usize>(
        &self,
        t: &[[f32; L]],
        of_p: &[[f32; L]],
    ) -> (Vec<[f32; L]>, Vec<[f32; L]>) {
        let m = t.len();
        let (mut lambda, mut mu) = (of_p.to_vec(), vec![[0.0; L]; m]);
        for j in 0..m {
            let mut of_r = [0.0; L];
            for i in 0..j {
                let (r, r_tilde) = (self.r[i * m + j], self.r_tilde[i * m + j]);
                for lane in 0..L {
                    of_r[lane] += r * mu[i][lane];
                    mu[j][lane] += r_tilde * lambda[i][lane];
                }
            }
            let (r, r_tilde) = (self.r[j * m + j], self.r_tilde[j * m + j]);
            for lane in 0..L {
                let t = t[j][lane];
                let of_before = of_r[lane] + r * mu[j][lane];
                lambda[j][lane] = (lambda[j][lane] - (1.0 - t * t) * of_before) / self.det(j, t);
                mu[j][lane] += r_tilde * lambda[j][lane];
            }
        }
        (lambda, mu)
    }
}
