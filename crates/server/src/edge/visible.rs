//! Text of others as people are shown it: what cannot be seen, or turns other text around, is written out.

/// Whether a character is invisible or changes the direction of what follows: one that makes a text read as another.
/// Line breaks and tabs are seen.
pub fn is_hidden(letter: char) -> bool {
    match letter {
        '\n' | '\t' => false,
        // Soft hyphen, Arabic letter mark, Hangul fillers, Mongolian separator; zero widths and directions; line and
        // paragraph separators; invisible operators and isolates; byte order mark; tags and variation selectors.
        '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{ffa0}' | '\u{feff}' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{e0000}'..='\u{e0fff}' => true,
        letter => letter.is_control(),
    }
}

/// The text with each hidden character as its code point, like `\u{202e}`.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        push_visible(&mut shown, letter);
    }
    shown
}

/// Adds a character, or its code point where it is hidden.
pub fn push_visible(shown: &mut String, letter: char) {
    if is_hidden(letter) { shown.extend(letter.escape_unicode()) } else { shown.push(letter) }
}

/// Whether the character belongs in no name. Joiners do, for scripts and emoji need them.
pub fn is_unfit_for_names(letter: char) -> bool {
    matches!(letter, '\n' | '\t') || (is_hidden(letter) && !matches!(letter, '\u{200c}' | '\u{200d}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        assert_eq!(visible("send\u{202e}live\u{200b}"), "send\\u{202e}live\\u{200b}");
        assert_eq!(visible("tag\u{e0041}\u{1b}[2J\r\n\tü…"), "tag\\u{e0041}\\u{1b}[2J\\u{d}\n\tü…");
        assert!(is_unfit_for_names('\u{202e}') && is_unfit_for_names('\n') && is_unfit_for_names('\u{e0041}'));
        assert!(!is_unfit_for_names('\u{200d}') && !is_unfit_for_names('é'));
    }
}
