//! Elementary functions of `f32` that vectorise: no branch, no call, no table.
//!
//! Each is good to a few units in the last place over its domain (the tests say how many) and hands NaN on. The
//! method is the usual one: take the power of two apart by the bits of the number, and evaluate a polynomial on the
//! remaining interval; the coefficients are those of Moshier's Cephes library (1989) for single precision.

/// 1.5 · 2²³: adding it rounds an `f32` to an integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;

/// e^x; from below -87 (where `f32` runs out of exponents) it is e^-87, and above 88 it is infinite.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let limited = if x < -87.0 { -87.0 } else { x };
    let limited = if limited > 88.0 { 88.0 } else { limited };
    let shifted = limited * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, the first short enough for n · ln 2 to be exact.
    let r = limited - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let mantissa = p * (r * r) + r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x > 88.0 {
        f32::INFINITY
    } else {
        mantissa * power
    }
}

/// ln x for normal x > 0; infinity and NaN are handed on.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    // x = 2^n m with m in [√½, √2)
    let bits = x.to_bits().wrapping_sub(0x3f35_04f3);
    let n = ((bits as i32) >> 23) as f32;
    let f = f32::from_bits((bits & 0x007f_ffff) + 0x3f35_04f3) - 1.0;
    let p = 7.037_683_6e-2;
    let p = p * f - 1.151_461e-1;
    let p = p * f + 1.167_699_9e-1;
    let p = p * f - 1.242_014_1e-1;
    let p = p * f + 1.424_932_3e-1;
    let p = p * f - 1.666_805_8e-1;
    let p = p * f + 2.000_071_5e-1;
    let p = p * f - 2.499_999_4e-1;
    let p = p * f + 3.333_333e-1;
    let f2 = f * f;
    let result = p * f * f2 - n * 2.121_944_4e-4 - 0.5 * f2 + f + n * 0.693_359_4;
    if x < f32::INFINITY { result } else { x }
}

/// ln(1 + x) for x > -1, to the last digits for small x too.
#[inline(always)]
pub fn ln_1p(x: f32) -> f32 {
    let y = 1.0 + x;
    let result = ln(y) + (x - (y - 1.0)) / y;
    if y < f32::INFINITY { result } else { y }
}

/// tanh x
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let x2 = x * x;
    let p = -5.704_988_7e-3;
    let p = p * x2 + 2.063_909e-2;
    let p = p * x2 - 5.373_971_6e-2;
    let p = p * x2 + 1.333_144_2e-1;
    let p = p * x2 - 3.333_328e-1;
    let near = p * x2 * x + x;
    let e = exp(-2.0 * size);
    let far = ((1.0 - e) / (1.0 + e)).copysign(x);
    if size < 0.625 { near } else { far }
}

/// tanh x and x - tanh x for x ≥ 0, to the last digits near 0 too, where the second is x³ / 3.
#[inline(always)]
pub fn tanh_and_rest(x: f32) -> (f32, f32) {
    // Lambert's continued fraction x / (1 + x² / (3 + … x² / 11)) as a quotient: no term of either numerator is negative.
    let x2 = x * x;
    let denominator = ((x2 + 210.0) * x2 + 4725.0) * x2 + 10395.0;
    let near = x * ((21.0 * x2 + 1260.0) * x2 + 10395.0) / denominator;
    let near_rest = x * x2 * ((x2 + 189.0) * x2 + 3465.0) / denominator;
    let e = exp(-2.0 * x);
    let far = (1.0 - e) / (1.0 + e);
    if x < 1.0 {
        (near, near_rest)
    } else {
        (far, x - far)
    }
}

/// ln(1 + e^x), to the last digits of both tails.
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    let positive_part = if x < 0.0 { 0.0 } else { x };
    positive_part + ln_1p(exp(-x.abs()))
}

/// 1 / (1 + e^-x)
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    let numerator = if x < 0.0 { e } else { 1.0 };
    numerator / (1.0 + e)
}

#[cfg(test)]
mod tests {
    /// The worst error over `points` numbers from `from` to `to`, in units in the last place of the exact value.
    fn worst(got: fn(f32) -> f32, exact: fn(f64) -> f64, from: f32, to: f32) -> f64 {
        let points = 200_001;
        let mut x: Vec<f32> = (0..points)
            .map(|i| from + (to - from) * (i as f32 / (points - 1) as f32))
            .collect();
        let exact: Vec<f64> = x.iter().map(|&x| exact(x.into())).collect();
        x.iter_mut().for_each(|x| *x = got(*x));
        x.iter()
            .zip(exact)
            .map(|(&got, exact)| {
                let unit = (exact.abs() as f32).max(f32::MIN_POSITIVE);
                let unit = f64::from(f32::from_bits(unit.to_bits() + 1)) - f64::from(unit);
                (f64::from(got) - exact).abs() / unit
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn each_is_good_to_a_few_units_in_the_last_place() {
        let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        // By its series where the difference would cancel.
        let rest = |x: f64| match x < 0.1 {
            true => {
                x.powi(3)
                    * (1.0 / 3.0
                        - x * x * (2.0 / 15.0 - x * x * (17.0 / 315.0 - x * x * 62.0 / 2835.0)))
            }
            false => x - x.tanh(),
        };
        for (name, got, exact, from, to, units) in [
            (
                "exp",
                super::exp as fn(f32) -> f32,
                f64::exp as fn(f64) -> f64,
                -87.0,
                88.0,
                2.0,
            ),
            ("exp", super::exp, f64::exp, -1.0, 1.0, 2.0),
            ("ln", super::ln, f64::ln, 1e-30, 1e-3, 2.0),
            ("ln", super::ln, f64::ln, 0.1, 4.0, 2.0),
            ("ln", super::ln, f64::ln, 1.0, 1e30, 2.0),
            ("ln_1p", super::ln_1p, f64::ln_1p, -0.9, 4.0, 3.0),
            ("ln_1p", super::ln_1p, f64::ln_1p, -1e-4, 1e-4, 3.0),
            ("tanh", super::tanh, f64::tanh, -12.0, 12.0, 3.0),
            ("tanh", super::tanh, f64::tanh, -0.7, 0.7, 3.0),
            ("tanh", super::tanh, f64::tanh, -1e-5, 1e-5, 3.0),
            (
                "tanh of the pair",
                |x| super::tanh_and_rest(x).0,
                f64::tanh,
                0.0,
                12.0,
                4.0,
            ),
            (
                "x - tanh x",
                |x| super::tanh_and_rest(x).1,
                rest,
                0.0,
                1.0,
                4.0,
            ),
            (
                "x - tanh x",
                |x| super::tanh_and_rest(x).1,
                rest,
                1.0,
                12.0,
                6.0,
            ),
            (
                "x - tanh x",
                |x| super::tanh_and_rest(x).1,
                rest,
                0.0,
                1e-4,
                4.0,
            ),
            ("softplus", super::softplus, softplus, -80.0, 80.0, 4.0),
            ("softplus", super::softplus, softplus, -3.0, 3.0, 4.0),
            ("sigmoid", super::sigmoid, sigmoid, -80.0, 80.0, 4.0),
            ("sigmoid", super::sigmoid, sigmoid, -3.0, 3.0, 4.0),
        ] {
            let worst = worst(got, exact, from, to);
            assert!(worst <= units, "{name} on [{from}, {to}]: {worst} units");
        }
    }

    #[test]
    fn the_ends_are_what_they_should_be() {
        for function in [
            super::exp,
            super::ln,
            super::ln_1p,
            super::tanh,
            super::softplus,
            super::sigmoid,
        ] {
            assert!(function(f32::NAN).is_nan());
        }
        assert_eq!(super::exp(100.0), f32::INFINITY);
        assert_eq!(super::exp(f32::NEG_INFINITY), super::exp(-87.0));
        for function in [super::exp, super::ln, super::ln_1p, super::softplus] {
            assert_eq!(function(f32::INFINITY), f32::INFINITY);
        }
        assert_eq!(super::tanh(f32::INFINITY), 1.0);
        assert_eq!(super::tanh(-1000.0), -1.0);
        assert_eq!(super::sigmoid(f32::INFINITY), 1.0);
        assert_eq!(super::ln(1.0), 0.0);
        assert_eq!(super::ln_1p(0.0), 0.0);
        assert_eq!(super::tanh(0.0), 0.0);
    }
}
