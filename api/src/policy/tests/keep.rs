//! How many snapshots stay.

use super::{policy, wrong};
use crate::policy::Tier;

#[test]
fn what_is_written_is_kept() {
    for (written, read) in [
        ("last=1,hourly=24,daily=7,weekly=4,monthly=12,yearly=0", "last=1,hourly=24,daily=7,weekly=4,monthly=12,yearly=0"),
        (" daily = 7 , last=1", "last=1,hourly=0,daily=7,weekly=0,monthly=0,yearly=0"),
        ("yearly=100000", "last=0,hourly=0,daily=0,weekly=0,monthly=0,yearly=100000"),
    ] {
        assert_eq!(policy(&[("keep", written)]).unwrap().keep.unwrap().to_string(), read, "{written}");
    }
    assert_eq!(policy(&[("keep", "daily=7")]).unwrap().keep.unwrap().of(Tier::Daily), 7);
    assert_eq!(policy(&[]).unwrap().keep, None);
    assert_eq!(policy(&[("keep", "")]).unwrap().keep, None, "present but empty: switched off");
}

#[test]
fn what_keeps_nothing_or_is_half_understood_is_refused() {
    for (written, words) in [
        ("last=0,daily=0", "would keep nothing; keep at least one, as in 'last=1,hourly=24"),
        (",", "has '' where a number of snapshots is wanted"),
        ("daily=7,", "has '' where"),
        ("7", "has '7' where"),
        ("daly=7", "has 'daly', which is no tier; did you mean daily?"),
        ("sometimes=7", "which is no tier; there are last, hourly, daily, weekly, monthly, yearly"),
        ("daily=7,daily=8", "says daily twice"),
        ("daily=", "has '' for daily, which is no number from 0 to 100000"),
        ("daily=-1", "has '-1' for daily"),
        ("daily=+1", "has '+1' for daily"),
        ("daily=1.5", "has '1.5' for daily"),
        ("daily=100001", "has '100001' for daily"),
        ("daily=99999999999", "has '99999999999' for daily"),
    ] {
        let told = wrong("keep", written);
        assert!(told.contains(words), "{written}: {told}");
    }
}
