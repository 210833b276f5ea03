//! Whether an SPDX licence expression (SPDX 2.3, annex D) can be met with the licences we accept. Pure.

/// Licences that ask for no more than their notice, so that a private extension may link the product.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// True when some choice of its alternatives needs only accepted licences. An expression that cannot be read is
/// refused.
pub(crate) fn allowed(expression: &str) -> bool {
    // Older crates write `/` where they mean `OR`.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    matches!(alternatives(&words), Some((true, [])))
}

/// `all { OR all }`: the answer and what is left to read.
fn alternatives<'a>(words: &'a [&'a str]) -> Option<(bool, &'a [&'a str])> {
    let (mut answer, mut rest) = conjunction(words)?;
    while let ["OR", after @ ..] = rest {
        let (one, left) = conjunction(after)?;
        answer = answer || one;
        rest = left;
    }
    Some((answer, rest))
}

/// `one { AND one }`.
fn conjunction<'a>(words: &'a [&'a str]) -> Option<(bool, &'a [&'a str])> {
    let (mut answer, mut rest) = licence(words)?;
    while let ["AND", after @ ..] = rest {
        let (one, left) = licence(after)?;
        answer = answer && one;
        rest = left;
    }
    Some((answer, rest))
}

fn licence<'a>(words: &'a [&'a str]) -> Option<(bool, &'a [&'a str])> {
    match words {
        ["(", inner @ ..] => match alternatives(inner)? {
            (answer, [")", rest @ ..]) => Some((answer, rest)),
            _ => None,
        },
        ["OR" | "AND" | "WITH" | ")", ..] | [] => None,
        [name, "WITH", exception, rest @ ..] => {
            let whole = format!("{name} WITH {exception}");
            Some((ALLOWED.contains(&whole.as_str()), rest))
        }
        [name, rest @ ..] => Some((ALLOWED.contains(name), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn expressions() {
        let check = |expression: &str, expect: bool| assert_eq!(allowed(expression), expect, "{expression}");
        check("MIT", true);
        check("GPL-3.0-only", false);
        check("GPL-3.0-only OR MIT", true);
        check("MIT/GPL-3.0-only", true);
        check("GPL-3.0-only AND MIT", false);
        check("MIT AND (GPL-3.0-only OR ISC)", true);
        check("(MIT OR GPL-3.0-only) AND GPL-3.0-only", false);
        check("Apache-2.0 WITH LLVM-exception OR GPL-3.0-only", true);
        check("Apache-2.0 WITH Other-exception", false);
        check("", false);
        check("MIT OR", false);
        check("(MIT", false);
        check("MIT)", false);
    }
}
