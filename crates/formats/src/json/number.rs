//! What a JSON number is as a value of a column's type.

use arrow::datatypes::i256;

use super::cursor::Number;

/// Powers of ten that a u64 holds.
const POWERS_OF_TEN: [u64; 20] = {
    let mut powers = [1u64; 20];
    let mut place = 1;
    while place < 20 {
        powers[place] = powers[place - 1] * 10;
        place += 1;
    }
    powers
};

/// Powers of ten that a f64 holds exactly.
const EXACT_POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Digits of a Decimal256, and of what is read into one.
const DECIMAL_DIGITS_MAX: usize = 76;

/// Why a number is not of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// It has a fraction, and the type has none.
    Fraction,
    /// It is too large, or negative where that cannot be.
    Range,
}

impl Number<'_> {
    /// Its magnitude, if it has no fraction.
    #[inline]
    fn magnitude(&self) -> Result<u64, Misfit> {
        if self.integral {
            return if self.exact { Ok(self.mantissa) } else { self.long_magnitude() };
        }
        self.magnitude_of_scientific()
    }

    /// Of 20 digits, some fit.
    #[cold]
    fn long_magnitude(&self) -> Result<u64, Misfit> {
        let digits = self.text.strip_prefix(b"-").unwrap_or(self.text);
        std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(Misfit::Range)
    }

    #[cold]
    fn magnitude_of_scientific(&self) -> Result<u64, Misfit> {
        if !self.exact {
            return Err(if self.exponent < 0 { Misfit::Fraction } else { Misfit::Range });
        }
        if self.mantissa == 0 {
            return Ok(0);
        }
        let power = POWERS_OF_TEN.get(self.exponent.unsigned_abs() as usize);
        match (self.exponent >= 0, power) {
            (true, Some(power)) => self.mantissa.checked_mul(*power).ok_or(Misfit::Range),
            (true, None) => Err(Misfit::Range),
            (false, Some(power)) if self.mantissa.is_multiple_of(*power) => Ok(self.mantissa / power),
            (false, _) => Err(Misfit::Fraction),
        }
    }

    /// As a signed integer.
    #[inline]
    pub(crate) fn to_i64(self) -> Result<i64, Misfit> {
        let magnitude = self.magnitude()?;
        if self.negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
            .ok_or(Misfit::Range)
    }

    /// As an unsigned integer.
    pub(crate) fn to_u64(self) -> Result<u64, Misfit> {
        let magnitude = self.magnitude()?;
        if self.negative && magnitude != 0 { Err(Misfit::Range) } else { Ok(magnitude) }
    }

    /// As the nearest float, if that is finite.
    #[inline]
    pub(crate) fn to_f64(self) -> Result<f64, Misfit> {
        // Both the mantissa and the power are exact, so one rounding gives the nearest (Clinger 1990).
        if self.exact && self.mantissa < 1 << 53 {
            let power = EXACT_POWERS_OF_TEN.get(self.exponent.unsigned_abs() as usize);
            if let Some(power) = power {
                let mantissa = self.mantissa as f64;
                let magnitude = if self.exponent < 0 { mantissa / power } else { mantissa * power };
                return Ok(if self.negative { -magnitude } else { magnitude });
            }
        }
        self.parse::<f64>().filter(|value| value.is_finite()).ok_or(Misfit::Range)
    }

    /// As the nearest short float, if that is finite.
    pub(crate) fn to_f32(self) -> Result<f32, Misfit> {
        self.parse::<f32>().filter(|value| value.is_finite()).ok_or(Misfit::Range)
    }

    fn parse<T: std::str::FromStr>(&self) -> Option<T> {
        std::str::from_utf8(self.text).ok()?.parse().ok()
    }

    /// As a decimal's unscaled value, rounded half away from zero.
    pub(crate) fn to_decimal(self, precision: u8, scale: i8) -> Result<i256, Misfit> {
        let (mantissa, exponent) =
            if self.exact { (i256::from_i128(self.mantissa as i128), self.exponent) } else { self.long_mantissa()? };
        let shift = exponent as i64 + scale as i64;
        let magnitude = if mantissa == i256::ZERO {
            mantissa
        } else if shift >= 0 {
            power_of_ten(shift).and_then(|power| mantissa.checked_mul(power)).ok_or(Misfit::Range)?
        } else {
            match power_of_ten(-shift) {
                None => i256::ZERO,
                Some(power) => {
                    let quotient = mantissa.checked_div(power).ok_or(Misfit::Range)?;
                    let rest = mantissa.checked_rem(power).ok_or(Misfit::Range)?;
                    // rest >= power / 2, without doubling beyond the range.
                    let up = rest >= power.wrapping_sub(rest);
                    if up { quotient.checked_add(i256::ONE).ok_or(Misfit::Range)? } else { quotient }
                }
            }
        };
        let bound = power_of_ten(precision as i64).ok_or(Misfit::Range)?;
        if magnitude >= bound {
            return Err(Misfit::Range);
        }
        Ok(if self.negative { magnitude.wrapping_neg() } else { magnitude })
    }

    /// The digits of a number that has more than fit into 64 bits, and its exponent.
    #[cold]
    fn long_mantissa(&self) -> Result<(i256, i32), Misfit> {
        let digits: String = self
            .text
            .iter()
            .take_while(|byte| !matches!(byte, b'e' | b'E'))
            .filter(|byte| byte.is_ascii_digit())
            .map(|byte| *byte as char)
            .collect();
        let digits = digits.trim_start_matches('0');
        // Digits that no decimal can hold: those after the point are cut, more before it are out of range in the end.
        let kept = &digits[..digits.len().min(DECIMAL_DIGITS_MAX)];
        let exponent = self.exponent.saturating_add((digits.len() - kept.len()).min(i32::MAX as usize) as i32);
        Ok((i256::from_string(kept).ok_or(Misfit::Range)?, exponent))
    }
}

fn power_of_ten(exponent: i64) -> Option<i256> {
    let exponent = u32::try_from(exponent).ok().filter(|exponent| *exponent <= DECIMAL_DIGITS_MAX as u32)?;
    i256::from_i128(10).checked_pow(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::cursor::Cursor;
    use proptest::prelude::*;

    fn number(text: &str) -> Number<'_> {
        Cursor::new(text.as_bytes()).expect("UTF-8").number().expect(text)
    }

    #[test]
    fn integers_at_the_edges() {
        assert_eq!(number("9223372036854775807").to_i64(), Ok(i64::MAX));
        assert_eq!(number("-9223372036854775808").to_i64(), Ok(i64::MIN));
        assert_eq!(number("9223372036854775808").to_i64(), Err(Misfit::Range));
        assert_eq!(number("-9223372036854775809").to_i64(), Err(Misfit::Range));
        assert_eq!(number("18446744073709551615").to_u64(), Ok(u64::MAX));
        assert_eq!(number("18446744073709551616").to_u64(), Err(Misfit::Range));
        assert_eq!(number("1e3").to_i64(), Ok(1000));
        assert_eq!(number("1.50e1").to_i64(), Ok(15));
        assert_eq!(number("0.0").to_i64(), Ok(0));
        assert_eq!(number("1.5").to_i64(), Err(Misfit::Fraction));
        assert_eq!(number("1e99999999999").to_i64(), Err(Misfit::Range));
        assert_eq!(number("0e99999999999").to_i64(), Ok(0));
        assert_eq!(number("-0").to_u64(), Ok(0));
        assert_eq!(number("-1").to_u64(), Err(Misfit::Range));
    }

    #[test]
    fn decimals_are_rounded_half_away_from_zero() {
        let cases = [
            ("1.005", 10, 2, Ok(101)),
            ("-1.005", 10, 2, Ok(-101)),
            ("1.0049", 10, 2, Ok(100)),
            ("99999999.99", 10, 2, Ok(9_999_999_999)),
            ("99999999.995", 10, 2, Err(Misfit::Range)),
            ("1e2", 10, 2, Ok(10_000)),
            ("1e-200", 10, 2, Ok(0)),
            ("1e200", 10, 2, Err(Misfit::Range)),
            ("123456789012345678901234.5", 38, 1, Ok(1_234_567_890_123_456_789_012_345)),
        ];
        for (text, precision, scale, expected) in cases {
            assert_eq!(number(text).to_decimal(precision, scale), expected.map(i256::from_i128), "{text}");
        }
    }

    proptest! {
        #[test]
        fn floats_are_the_nearest(value in any::<f64>().prop_filter("finite", |value| value.is_finite())) {
            prop_assert_eq!(number(&format!("{value:e}")).to_f64(), Ok(value));
            prop_assert_eq!(number(&format!("{value}")).to_f64(), Ok(value));
        }

        #[test]
        fn short_decimals_are_floats_to_the_last_bit(text in "-?(0|[1-9][0-9]{0,18})(\\.[0-9]{1,20})?(e-?[0-9]{1,2})?") {
            prop_assert_eq!(number(&text).to_f64(), Ok(text.parse::<f64>().unwrap()));
        }

        #[test]
        fn any_number_has_an_answer(text in "-?(0|[1-9][0-9]{0,100})(\\.[0-9]{1,100})?(e[+-]?[0-9]{1,20})?", precision in 1u8..=76, scale in -76i8..=76) {
            let number = number(&text);
            let _ = (number.to_i64(), number.to_u64(), number.to_f64(), number.to_f32(), number.to_decimal(precision, scale));
        }
    }
}
