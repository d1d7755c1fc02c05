//! One field of a schedule, as bits.
//!
//! `H` stands for a value that a hash of namespace and name picks from the field's whole range, so that many volumes with the same
//! annotation do not all start at once; days of the month stop at 28, which every month has.

use super::error::{Field, ScheduleError, short};
use sha2::{Digest, Sha256};

/// What `H` is made from: one hash a name, six bytes of it a field.
pub(super) struct Seed([u8; 32]);

impl Seed {
    /// The seed of a name. Only hashed if `text` can contain an `H` at all.
    pub(super) fn new(text: &str, namespace: &str, name: &str) -> Self {
        if !text.contains(['H', 'h']) {
            return Self([0; 32]);
        }
        let mut sha = Sha256::new();
        for part in [namespace, name] {
            sha.update(part.as_bytes());
            sha.update([0]);
        }
        Self(sha.finalize().into())
    }

    /// A number below `below`, the same for ever; `below` must not be 0.
    fn pick(&self, field: Field, below: u32) -> u32 {
        let bytes = self.0.iter().skip(field as usize * 6).take(6);
        let number = bytes.fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        u32::try_from(number % u64::from(below.max(1))).unwrap_or(0)
    }
}

/// Whether a field says nothing.
pub(super) fn is_any(text: &str) -> bool {
    matches!(text, "*" | "?")
}

/// The bits of a field, laid out as in [`super::pattern::Pattern`].
pub(super) fn parse(field: Field, text: &str, seed: &Seed) -> Result<u64, ScheduleError> {
    text.split(',').try_fold(0, |bits, item| Ok(bits | parse_item(field, item, seed)?))
}

fn parse_item(field: Field, item: &str, seed: &Seed) -> Result<u64, ScheduleError> {
    if let Some(bits) = special(field, item)? {
        return Ok(bits);
    }
    let (base, step) = match item.split_once('/') {
        Some((base, step)) => (base, Some(number(field, item, step)?)),
        None => (item, None),
    };
    let span = span(field, item, base)?;
    let (low, high) = (span.low, span.high);
    let values = high - low + 1;
    if let Some(step) = step
        && !(1..=values).contains(&step)
    {
        return Err(ScheduleError::Step { field, step, max: values });
    }
    let (low, high, step) = match (span.kind, step) {
        (Kind::Hashed, None) => {
            let picked = low + seed.pick(field, values);
            (picked, picked, 1)
        }
        (Kind::Hashed, Some(step)) => (low + seed.pick(field, step), high, step),
        (Kind::Single, None) => (low, low, 1),
        (Kind::Single | Kind::Range, step) => (low, high, step.unwrap_or(1)),
    };
    let values = (low..=high).step_by(step as usize);
    Ok(values.fold(0, |bits, value| bits | bit(field, value)))
}

/// The bit of one value; a weekday's are five, one for each time it can come in a month.
fn bit(field: Field, value: u32) -> u64 {
    match field {
        Field::Weekday => 0x01_0101_0101 << (value % 7),
        Field::Minute | Field::Hour | Field::Day | Field::Month => 1 << value,
    }
}

/// What stands before the step.
struct Span {
    kind: Kind,
    low: u32,
    high: u32,
}

#[derive(Clone, Copy)]
enum Kind {
    /// One value; with a step, from there to the field's end.
    Single,
    /// `*` or `a-b`.
    Range,
    /// `H` or `H(a-b)`.
    Hashed,
}

fn span(field: Field, item: &str, base: &str) -> Result<Span, ScheduleError> {
    let (min, max) = field.range();
    // What has no end of its own ends on Saturday: 7 is just another name for Sunday.
    let last = if field == Field::Weekday { 6 } else { max };
    let span = |kind, low, high| Ok(Span { kind, low, high });
    if is_any(base) {
        return span(Kind::Range, min, last);
    }
    if let Some(hashed) = base.strip_prefix(['H', 'h']) {
        if hashed.is_empty() {
            return span(Kind::Hashed, min, if field == Field::Day { 28 } else { last });
        }
        let inner = hashed.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let (low, high) = inner.and_then(|inner| inner.split_once('-')).ok_or_else(|| unclear(field, item))?;
        let (low, high) = range(field, item, low, high)?;
        return span(Kind::Hashed, low, high);
    }
    if let Some((low, high)) = base.split_once('-') {
        let (low, high) = range(field, item, low, high)?;
        return span(Kind::Range, low, high);
    }
    let low = value(field, item, base)?;
    span(Kind::Single, low, last.max(low))
}

fn range(field: Field, item: &str, low: &str, high: &str) -> Result<(u32, u32), ScheduleError> {
    let from = value(field, item, low)?;
    // `FRI-SUN` and `1-SUN` mean the week's end.
    let to = if field == Field::Weekday && high.eq_ignore_ascii_case("SUN") && from > 0 { 7 } else { value(field, item, high)? };
    if from > to {
        return Err(ScheduleError::Backwards { field, text: short(item) });
    }
    Ok((from, to))
}

/// `L`, `5L`, `1#2`: days that are counted within their month.
fn special(field: Field, item: &str) -> Result<Option<u64>, ScheduleError> {
    match field {
        Field::Day if item.eq_ignore_ascii_case("L") => Ok(Some(1)),
        Field::Day if item.len() > 1 && item.ends_with(['W', 'w']) => Err(ScheduleError::NearestWeekday { text: short(item) }),
        Field::Minute | Field::Hour | Field::Month | Field::Day => Ok(None),
        Field::Weekday => {
            if let Some((day, nth)) = item.split_once('#') {
                let day = value(field, item, day)? % 7;
                return match number(field, item, nth)? {
                    nth @ 1..=5 => Ok(Some(1 << ((nth - 1) * 8 + day))),
                    _ => Err(unclear(field, item)),
                };
            }
            match item.strip_suffix(['L', 'l']) {
                Some(day) if !day.is_empty() => Ok(Some(1 << (40 + value(field, item, day)? % 7))),
                Some(_) | None => Ok(None),
            }
        }
    }
}

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A value of the field: a number in its range, or a name.
fn value(field: Field, item: &str, text: &str) -> Result<u32, ScheduleError> {
    let named = match field {
        Field::Month => (1..).zip(MONTHS).find(|(_, name)| text.eq_ignore_ascii_case(name)),
        Field::Weekday => (0..).zip(WEEKDAYS).find(|(_, name)| text.eq_ignore_ascii_case(name)),
        Field::Minute | Field::Hour | Field::Day => None,
    };
    if let Some((value, _)) = named {
        return Ok(value);
    }
    let value = number(field, item, text)?;
    let (min, max) = field.range();
    if (min..=max).contains(&value) { Ok(value) } else { Err(ScheduleError::OutOfRange { field, value }) }
}

/// Digits only: what `u32` would read beyond them, like `+5`, is no cron.
fn number(field: Field, item: &str, text: &str) -> Result<u32, ScheduleError> {
    if text.is_empty() || text.len() > 9 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(unclear(field, item));
    }
    text.parse().map_err(|_| unclear(field, item))
}

fn unclear(field: Field, item: &str) -> ScheduleError {
    ScheduleError::NotUnderstood { field, text: short(item) }
}
