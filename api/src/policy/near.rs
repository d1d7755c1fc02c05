//! What a mistyped word was probably meant to be.

/// Those of `known` that are a few typos away from `word`, nearest first, at most three.
pub(crate) fn near<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(64).collect();
    let tolerance = (word.len() / 3).clamp(1, 3);
    let mut found: Vec<_> = known
        .into_iter()
        .filter_map(|known| {
            let letters: Vec<char> = known.to_lowercase().chars().collect();
            let away = if letters.len().abs_diff(word.len()) > tolerance { usize::MAX } else { distance(&word, &letters) };
            (away <= tolerance).then_some((away, known))
        })
        .collect();
    found.sort_by_key(|(away, _)| *away);
    found.into_iter().take(3).map(|(_, known)| known).collect()
}

/// How many letters must be added, dropped, changed or swapped with their neighbour to make `b` of `a`.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let changed = above[j] + usize::from(x != y);
            let mut least = changed.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_typos() {
        for (a, b, typos) in [("scheduel", "schedule", 1), ("schdule", "schedule", 1), ("", "abc", 3), ("abc", "", 3), ("a", "a", 0)] {
            let letters = |text: &str| text.chars().collect::<Vec<_>>();
            assert_eq!(distance(&letters(a), &letters(b)), typos, "{a} {b}");
        }
    }

    #[test]
    fn names_the_nearest_first_and_nothing_far_away() {
        assert_eq!(near("shedule", ["group", "archive-schedule", "schedule"]), ["schedule"]);
        assert_eq!(near("Schedule", ["schedule"]), ["schedule"]);
        assert!(near("something-else", ["group", "schedule"]).is_empty());
        assert_eq!(near("modes", ["mode", "node"]), ["mode"]);
    }
}
