//! How many snapshots of which spans of time stay: `last=1,hourly=24,daily=7`.
//!
//! Invariant: a [`Keep`] keeps something. What keeps nothing, or is half understood, is no policy: it would delete everything.

use super::near::near;
use std::fmt;

/// More of one kind than this is a mistake: nine years of hourly snapshots are fewer.
const MOST: u32 = 100_000;
/// The newest ones, whatever their time.
const LAST: &str = "last";

/// A span of time of which the first snapshot is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// An hour of the policy's clock.
    Hourly,
    /// A day.
    Daily,
    /// A week of ISO 8601, from Monday.
    Weekly,
    /// A month.
    Monthly,
    /// A year.
    Yearly,
}

impl Tier {
    /// All, the shortest first.
    pub const ALL: [Self; 5] = [Self::Hourly, Self::Daily, Self::Weekly, Self::Monthly, Self::Yearly];

    /// As it stands in a policy, and as a label without its prefix.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        }
    }
}

/// How many of each are kept; at least one number is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    last: u32,
    tiers: [u32; Tier::ALL.len()],
}

impl Keep {
    /// How many of the newest, whatever their time.
    pub const fn last(&self) -> usize {
        self.last as usize
    }

    /// How many of a tier.
    pub const fn of(&self, tier: Tier) -> usize {
        self.tiers[tier as usize] as usize
    }

    /// Reads `hourly=24,daily=7`; what is not named is zero. The error says what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut last, mut tiers) = (None, [None; Tier::ALL.len()]);
        for part in text.split(',') {
            let part = part.trim();
            let Some((name, number)) = part.split_once('=') else {
                return Err(format!("has '{part}' where a number of snapshots is wanted, as in {EXAMPLE}"));
            };
            let (name, number) = (name.trim(), number.trim());
            let place = if name == LAST {
                &mut last
            } else {
                let tier = Tier::ALL.into_iter().find(|tier| tier.name() == name).ok_or_else(|| unknown(name))?;
                &mut tiers[tier as usize]
            };
            if place.replace(read(name, number)?).is_some() {
                return Err(format!("says {name} twice"));
            }
        }
        let keep = Self { last: last.unwrap_or_default(), tiers: tiers.map(Option::unwrap_or_default) };
        if keep.last == 0 && keep.tiers == [0; Tier::ALL.len()] {
            return Err(format!("would keep nothing; keep at least one, as in {EXAMPLE}"));
        }
        Ok(keep)
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{LAST}={}", self.last)?;
        Tier::ALL.into_iter().try_for_each(|tier| write!(f, ",{}={}", tier.name(), self.of(tier)))
    }
}

const EXAMPLE: &str = "'last=1,hourly=24,daily=7,weekly=4,monthly=12'";

fn read(name: &str, number: &str) -> Result<u32, String> {
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    match number.parse::<u32>() {
        Ok(number) if digits && number <= MOST => Ok(number),
        Ok(_) | Err(_) => Err(format!("has '{number}' for {name}, which is no number from 0 to {MOST}")),
    }
}

fn unknown(name: &str) -> String {
    let names = || std::iter::once(LAST).chain(Tier::ALL.into_iter().map(Tier::name));
    let meant = near(name, names());
    if meant.is_empty() {
        return format!("has '{name}', which is no tier; there are {}", names().collect::<Vec<_>>().join(", "));
    }
    format!("has '{name}', which is no tier; did you mean {}?", meant.join(" or "))
}
