//! A first look at a regular expression, which only Python can judge: borg compiles it when a backup begins.
//!
//! Finds the mistakes that people make (a glob after `re:`, a bracket left open) and never objects to what Python takes.

/// What is wrong with `text`, if that is plain to see.
pub(super) fn fault(text: &str) -> Option<&'static str> {
    // In a comment anything may stand.
    if text.contains("(?") && text.contains('#') {
        return None;
    }
    let mut letters = text.chars().peekable();
    let mut open = 0_usize;
    // What stands before: nothing that could be repeated, a quantifier, or something else.
    let mut before = Before::Nothing;
    while let Some(letter) = letters.next() {
        before = match letter {
            '\\' => {
                if letters.next().is_none() {
                    return Some("ends with a backslash");
                }
                Before::Item
            }
            '[' => {
                if !class(&mut letters) {
                    return Some("has a '[' that is not closed");
                }
                Before::Item
            }
            '(' => {
                open += 1;
                // `(?` begins an extension; its `?` repeats nothing.
                letters.next_if_eq(&'?');
                Before::Nothing
            }
            ')' if open == 0 => return Some("has a ')' too many"),
            ')' => {
                open -= 1;
                Before::Item
            }
            '|' => Before::Nothing,
            '*' | '+' | '?' if before == Before::Nothing => {
                return Some("has a '*', '+' or '?' with nothing before it to repeat ('.*' is anything)");
            }
            '*' if before == Before::Quantifier => return Some("has a '*' that repeats what is repeated already"),
            '*' | '+' | '?' => Before::Quantifier,
            _ => Before::Item,
        };
    }
    (open > 0).then_some("has a '(' that is not closed")
}

#[derive(Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    Item,
    Quantifier,
}

/// Reads the rest of a `[…]`; whether it ends.
fn class(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> bool {
    letters.next_if_eq(&'^');
    // First in it, `]` is a letter.
    letters.next_if_eq(&']');
    while let Some(letter) = letters.next() {
        match letter {
            ']' => return true,
            '\\' => {
                letters.next();
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of these was given to Python 3.11's `re.compile`.
    #[test]
    fn finds_plain_mistakes_and_leaves_the_rest_to_python() {
        for taken in [
            r"\.o$",
            "a*",
            "a*?",
            "a*+",
            "a??",
            "(a|b)*",
            "(?:a)",
            "(?i)x",
            "(?#a ( comment)b",
            "(?x)a # (",
            "[]]",
            "[^]]",
            "[*+?(]",
            r"[\]]",
            r"\(",
            "a{2,3}",
            "^/x",
            "",
            "(|a)",
            "{",
            "]",
        ] {
            assert_eq!(fault(taken), None, "{taken}");
        }
        for refused in ["*.tmp", "+", "(*a)", "a|*", "(", "(a", ")", "a)", "[", "[a", "[]", r"a\", "a**", "a+*", "**/cache"] {
            assert!(fault(refused).is_some(), "{refused}");
        }
    }
}
