//! Text of the agent and the server as a page shows it: text, with a few marks.
//!
//! Invariants: the output holds no tags but `code`, `strong` and `a`, never nested; no image, no other attribute than
//! those of [`link`]; a link shows its host and opens with no referrer; whatever is not understood stays text.

use std::borrow::Cow;

/// Who wrote the text, which says what a link may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// The agent: a link shows its host, whatever it is called.
    Agent,
    /// The server: a link on this site may be called by its label.
    Server,
}

/// Longest address that becomes a link.
const ADDRESS_BYTES_MAX: usize = 2_048;
/// Addresses looked at in one text: later ones stay text.
const ADDRESSES_MAX: usize = 500;

/// Renders marks: `` `code` ``, fenced code, `**strong**`, `[label](address)` and bare addresses. The work grows linearly
/// with the text, whatever it is.
///
/// Line breaks stay characters; the page shows them by its style.
pub fn render(text: &str, author: Author) -> String {
    Renderer::new(text, author).render()
}

/// Where the marks of a text stand, each kind in order, so that the next one is found without reading the text again.
struct Marks {
    newlines: Vec<usize>,
    fences: Vec<usize>,
    codes: Vec<usize>,
    strongs: Vec<usize>,
    labels: Vec<usize>,
    targets: Vec<usize>,
    target_ends: Vec<usize>,
}

impl Marks {
    fn of(text: &str) -> Self {
        let places = |mark: &str| -> Vec<usize> {
            let starts = text.as_bytes().windows(mark.len()).enumerate();
            starts.filter(|(_, bytes)| *bytes == mark.as_bytes()).map(|(place, _)| place).collect()
        };
        Self {
            newlines: places("\n"),
            fences: places("```"),
            codes: places("`"),
            strongs: places("**"),
            labels: places("["),
            targets: places("]("),
            target_ends: places(")"),
        }
    }

    /// The first place from there on.
    fn next(places: &[usize], from: usize) -> Option<usize> {
        places.get(places.partition_point(|place| *place < from)).copied()
    }

    /// The same within the line.
    fn next_in_line(&self, places: &[usize], from: usize) -> Option<usize> {
        let end = Self::next(&self.newlines, from).unwrap_or(usize::MAX);
        Self::next(places, from).filter(|place| *place < end)
    }
}

struct Renderer<'a> {
    text: &'a str,
    author: Author,
    marks: Marks,
    addresses_left: usize,
    /// What was read to see whether a mark is one, for the test of its bound.
    #[cfg(test)]
    bytes_read: usize,
}

impl<'a> Renderer<'a> {
    fn new(text: &'a str, author: Author) -> Self {
        Self {
            text,
            author,
            marks: Marks::of(text),
            addresses_left: ADDRESSES_MAX,
            #[cfg(test)]
            bytes_read: 0,
        }
    }

    fn render(&mut self) -> String {
        let mut out = String::with_capacity(self.text.len().saturating_add(64));
        let mut at = 0;
        let mut at_word_start = true;
        while let Some(char) = self.text.get(at..).and_then(|rest| rest.chars().next()) {
            if let Some((html, after)) = self.mark_at(at, char, at_word_start) {
                out.push_str(&html);
                at_word_start = false;
                at = after;
                continue;
            }
            at_word_start = !char.is_alphanumeric();
            push_escaped(&mut out, char);
            at = at.saturating_add(char.len_utf8());
        }
        out
    }

    /// What the mark at this place becomes, and where it ends.
    fn mark_at(&mut self, at: usize, char: char, at_word_start: bool) -> Option<(String, usize)> {
        match char {
            '`' => self.fence(at).or_else(|| self.inline(at, "`", "code")),
            '*' => self.inline(at, "**", "strong"),
            '[' => self.labelled(at),
            'h' if at_word_start => self.bare(at),
            _ => None,
        }
    }

    /// Counts an address that is looked at; false where there were too many.
    fn takes_address(&mut self) -> bool {
        let left = self.addresses_left.checked_sub(1);
        self.addresses_left = left.unwrap_or_default();
        left.is_some()
    }

    /// A piece of the text.
    fn read(&mut self, from: usize, to: usize) -> &'a str {
        let text = self.text.get(from..to).unwrap_or_default();
        #[cfg(test)]
        {
            self.bytes_read += text.len();
        }
        text
    }

    fn starts_with(&self, at: usize, mark: &str) -> bool {
        self.text.get(at..).is_some_and(|rest| rest.starts_with(mark))
    }

    /// A block between lines of three backticks; a word after the first fence is the language and is left out.
    fn fence(&mut self, at: usize) -> Option<(String, usize)> {
        if !self.starts_with(at, "```") {
            return None;
        }
        let from = at.saturating_add(3);
        let end = Marks::next(&self.marks.fences, from)?;
        let inner = self.read(from, end);
        let inner = match inner.split_once('\n') {
            Some((language, code))
                if language.chars().all(|char| char.is_alphanumeric() || "+-#.\r".contains(char)) =>
            {
                code
            }
            _ => inner,
        };
        Some((format!("<code>{}</code>", escaped(inner.trim_end())), end.saturating_add(3)))
    }

    fn inline(&mut self, at: usize, mark: &str, tag: &str) -> Option<(String, usize)> {
        if !self.starts_with(at, mark) {
            return None;
        }
        let places = if tag == "code" { &self.marks.codes } else { &self.marks.strongs };
        let from = at.saturating_add(mark.len());
        let end = self.marks.next_in_line(places, from)?;
        let inner = self.read(from, end);
        if inner.trim().is_empty() {
            return None;
        }
        Some((format!("<{tag}>{}</{tag}>", escaped(inner)), end.saturating_add(mark.len())))
    }

    fn labelled(&mut self, at: usize) -> Option<(String, usize)> {
        let from = at.saturating_add(1);
        let middle = self.marks.next_in_line(&self.marks.targets, from)?;
        let target_from = middle.saturating_add(2);
        let end = self.marks.next_in_line(&self.marks.target_ends, target_from)?;
        if Marks::next(&self.marks.labels, from).is_some_and(|nested| nested < middle) {
            return None;
        }
        if end.saturating_sub(target_from) > ADDRESS_BYTES_MAX || !self.takes_address() {
            return None;
        }
        let label = self.read(from, middle);
        let target = self.read(target_from, end);
        let after = end.saturating_add(1);
        if self.author == Author::Server && target.starts_with("/me/") {
            // A path of this site: resolved against nothing, so it cannot become another one's.
            let plain = target.chars().all(|char| char.is_ascii_alphanumeric() || "/-_?=&".contains(char));
            return plain.then(|| (format!("<a href=\"{}\">{}</a>", escaped(target), escaped(label)), after));
        }
        let label = escaped(label);
        let link = link(target)?;
        Some((format!("{label} ({link})"), after))
    }

    fn bare(&mut self, at: usize) -> Option<(String, usize)> {
        let is_address = self.starts_with(at, "https://") || self.starts_with(at, "http://");
        if !is_address || !self.takes_address() {
            return None;
        }
        let ends = |char: char| char.is_whitespace() || "<>\"'`()[]{}|\\^".contains(char);
        let longest = self.text.floor_char_boundary(at.saturating_add(ADDRESS_BYTES_MAX).saturating_add(1));
        let whole = self.read(at, longest).split(ends).next()?;
        let target = whole.trim_end_matches(['.', ',', ';', ':', '!', '?', '*']);
        if target.len() > ADDRESS_BYTES_MAX {
            return None;
        }
        Some((link(target)?, at.saturating_add(target.len())))
    }
}

/// Escapes one character; those that turn the reading direction are dropped, since they can disguise a link.
fn push_escaped(out: &mut String, char: char) {
    match char {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&#39;"),
        '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => {}
        other => out.push(other),
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|char| push_escaped(&mut out, char));
    out
}

/// A link that shows its host, or nothing for an address that no browser should be sent to.
fn link(target: &str) -> Option<String> {
    let url = url::Url::parse(target).ok()?;
    let host = url.host_str()?;
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    let shown: Cow<'_, str> = match url.port() {
        Some(port) => Cow::Owned(format!("{host}:{port}")),
        None => Cow::Borrowed(host),
    };
    let address = escaped(url.as_str());
    Some(format!(
        "<a href=\"{address}\" rel=\"noopener noreferrer nofollow\" title=\"{address}\">{}</a>",
        escaped(&shown)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, html: &str) {
        assert_eq!(render(text, Author::Agent), html, "{text}");
    }

    #[test]
    fn a_few_marks_are_rendered_and_all_else_is_text() {
        check("plain\nlines", "plain\nlines");
        check("a `b<c` **d** e", "a <code>b&lt;c</code> <strong>d</strong> e");
        check("```rust\nfn a() {}\n```", "<code>fn a() {}</code>");
        check("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;");
        check(
            "![x](https://evil.test/p.png)",
            "!x (<a href=\"https://evil.test/p.png\" rel=\"noopener noreferrer \
            nofollow\" title=\"https://evil.test/p.png\">evil.test</a>)",
        );
        check("[click](javascript:alert(1))", "[click](javascript:alert(1))");
        check("[own](/me/spaces)", "[own](/me/spaces)");
        check("https://user:pw@bank.test/", "https://user:pw@bank.test/");
        check("unfinished `code and **strong", "unfinished `code and **strong");
    }

    #[test]
    fn an_address_is_a_link_up_to_its_longest_and_then_text() {
        let address = |bytes: usize| format!("https://a.test/{}", "x".repeat(bytes - 15));
        assert!(render(&format!("{} b", address(ADDRESS_BYTES_MAX)), Author::Agent).starts_with("<a href="));
        check(&address(ADDRESS_BYTES_MAX + 1), &address(ADDRESS_BYTES_MAX + 1));
        let labelled = format!("[a]({})", address(ADDRESS_BYTES_MAX + 1));
        check(&labelled, &labelled);
    }

    #[test]
    fn a_link_shows_its_host_and_the_server_may_name_its_own_pages() {
        check(
            "see https://docs.test/a?b=\"c.",
            "see <a href=\"https://docs.test/a?b=\" rel=\"noopener noreferrer \
            nofollow\" title=\"https://docs.test/a?b=\">docs.test</a>&quot;c.",
        );
        let own = render("[Connect notes](/me/mcp-servers/mcp_1/connect)", Author::Server);
        assert_eq!(own, "<a href=\"/me/mcp-servers/mcp_1/connect\">Connect notes</a>");
        assert_eq!(render("[x](/me/\"onclick=y)", Author::Server), "[x](/me/&quot;onclick=y)");
    }

    /// Takes the tags out; fails on any that is not on the list, and on nesting.
    fn tags_are_allowed(html: &str) -> bool {
        let mut rest = html;
        let mut open: Option<&str> = None;
        while let Some(at) = rest.find('<') {
            let Some(end) = rest[at..].find('>') else { return false };
            let tag = &rest[at + 1..at + end];
            rest = &rest[at + end + 1..];
            match (open, tag) {
                (None, "code" | "strong") => open = Some(tag),
                (None, tag) if tag.starts_with("a href=\"") => {
                    let parts: Vec<&str> = tag.split('"').collect();
                    let foreign = parts.len() == 7
                        && parts[2] == " rel="
                        && parts[4] == " title="
                        && parts[6].is_empty()
                        && parts[3] == "noopener noreferrer nofollow"
                        && (parts[1].starts_with("https://") || parts[1].starts_with("http://"));
                    let own = parts.len() == 3 && parts[1].starts_with("/me/") && parts[2].is_empty();
                    if !(foreign || own) {
                        return false;
                    }
                    open = Some("a");
                }
                (Some("code"), "/code") | (Some("strong"), "/strong") | (Some("a"), "/a") => open = None,
                _ => return false,
            }
        }
        open.is_none() && !rest.contains('>')
    }

    #[test]
    fn l108_a_text_made_to_be_slow_is_read_about_once() {
        let pieces = [
            "[",
            "[a](",
            "[a](http://x",
            "[a](b)",
            "[a](http://x)",
            "`",
            "``` ",
            "**",
            "** a",
            "*",
            "https://",
            "https://a",
            "](",
            ")",
            "` ",
            "a",
        ];
        for piece in pieces {
            for end in ["", ")", "` ** ``` )"] {
                for author in [Author::Agent, Author::Server] {
                    let text = piece.repeat(100_000 / piece.len()) + end;
                    let mut renderer = Renderer::new(&text, author);
                    let html = renderer.render();
                    let bound = 2 * text.len() + ADDRESSES_MAX * (ADDRESS_BYTES_MAX + 1);
                    assert!(renderer.bytes_read <= bound, "{} bytes were read of {piece}{end}", renderer.bytes_read);
                    assert!(html.len() >= text.len() / 3, "{piece}{end}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn s05_no_text_brings_a_tag_that_is_not_on_the_list(
            text in "(```|`|\\*\\*|\\[|\\]\\(|\\)|https?://|<a|<img src=|/me/|[\"'<>&\n a-z:/.@?#=]){0,60}"
        ) {
            prop_assert!(tags_are_allowed(&render(&text, Author::Agent)), "{text}");
            prop_assert!(tags_are_allowed(&render(&text, Author::Server)), "{text}");
        }

        #[test]
        fn s05_any_text_at_all_is_safe(text in "\\PC{0,200}") {
            prop_assert!(tags_are_allowed(&render(&text, Author::Server)), "{text}");
        }
    }
}
