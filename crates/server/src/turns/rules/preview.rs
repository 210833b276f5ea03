//! What is shown of a step's input and output: bounded, and with nothing in it that could steer a terminal or hide
//! how a text reads.

use thinkwork_primitives::limits::PREVIEW_CHARS_MAX;

use crate::edge::visible::push_visible;

/// The beginning of a text with control and direction characters written out as escapes.
pub fn preview(text: &str) -> String {
    let mut shown = String::new();
    let mut left = PREVIEW_CHARS_MAX.saturating_sub(1);
    for c in text.chars() {
        let mut escaped = String::new();
        push_visible(&mut escaped, c);
        let count = escaped.chars().count();
        if count > left {
            shown.push('…');
            break;
        }
        left = left.saturating_sub(count);
        shown.push_str(&escaped);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn controls_are_written_out_and_long_texts_end() {
        assert_eq!(preview("a\u{1b}[31m\nb\r"), "a\\u{1b}[31m\nb\\u{d}");
        assert_eq!(preview("to\u{202e}live"), "to\\u{202e}live");
        let long = preview(&"é".repeat(PREVIEW_CHARS_MAX + 1));
        assert_eq!((long.chars().count(), long.ends_with('…')), (PREVIEW_CHARS_MAX, true));
    }

    proptest! {
        #[test]
        fn no_text_gets_past_the_limit_or_keeps_a_control(text in any::<String>(), times in 1_usize..400) {
            let shown = preview(&text.repeat(times));
            prop_assert!(shown.chars().count() <= PREVIEW_CHARS_MAX);
            prop_assert!(!shown.chars().any(crate::edge::visible::is_hidden));
        }
    }

    #[test]
    fn l108_a_preview_is_made_in_linear_time() {
        let marks = ["a", "\u{1b}", "\u{1f600}", "\n"];
        thinkwork_linear_time::assert_linear(&marks, 1_048_576, preview);
    }
}
