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

/// Renders marks: `` `code` ``, fenced code, `**strong**`, `[label](address)` and bare addresses.
///
/// Line breaks stay characters; the page shows them by its style.
pub fn render(text: &str, author: Author) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(64));
    let mut rest = text;
    let mut at_word_start = true;
    while !rest.is_empty() {
        let found = fence(rest)
            .or_else(|| inline(rest, "`", "code"))
            .or_else(|| inline(rest, "**", "strong"))
            .or_else(|| labelled(rest, author))
            .or_else(|| if at_word_start { bare(rest) } else { None });
        if let Some((html, after)) = found {
            out.push_str(&html);
            at_word_start = false;
            rest = after;
            continue;
        }
        let mut chars = rest.chars();
        if let Some(char) = chars.next() {
            at_word_start = !char.is_alphanumeric();
            push_escaped(&mut out, char);
        }
        rest = chars.as_str();
    }
    out
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

/// A block between lines of three backticks; a word after the first fence is the language and is left out.
fn fence(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix("```")?;
    let (inner, after) = body.split_once("```")?;
    let inner = match inner.split_once('\n') {
        Some((language, code)) if language.chars().all(|char| char.is_alphanumeric() || "+-#.\r".contains(char)) => {
            code
        }
        _ => inner,
    };
    Some((format!("<code>{}</code>", escaped(inner.trim_end())), after))
}

fn inline<'a>(text: &'a str, mark: &str, tag: &str) -> Option<(String, &'a str)> {
    let body = text.strip_prefix(mark)?;
    let line = body.lines().next().unwrap_or("");
    let end = line.find(mark).filter(|end| *end > 0)?;
    let inner = body.get(..end)?;
    let after = body.get(end..)?.strip_prefix(mark)?;
    if inner.trim().is_empty() {
        return None;
    }
    Some((format!("<{tag}>{}</{tag}>", escaped(inner)), after))
}

fn labelled(text: &str, author: Author) -> Option<(String, &str)> {
    let body = text.strip_prefix('[')?;
    let line = body.lines().next().unwrap_or("");
    let (label, target) = line.split_once("](")?;
    let (target, _) = target.split_once(')')?;
    if label.contains('[') {
        return None;
    }
    let after = body.get(label.len()..)?.strip_prefix("](")?.get(target.len()..)?.strip_prefix(')')?;
    let own = author == Author::Server && target.starts_with("/me/");
    if own {
        // A path of this site: resolved against nothing, so it cannot become another one's.
        let plain = target.chars().all(|char| char.is_ascii_alphanumeric() || "/-_?=&".contains(char));
        return plain.then(|| (format!("<a href=\"{}\">{}</a>", escaped(target), escaped(label)), after));
    }
    let link = link(target)?;
    Some((format!("{} ({link})", escaped(label)), after))
}

fn bare(text: &str) -> Option<(String, &str)> {
    if !(text.starts_with("https://") || text.starts_with("http://")) {
        return None;
    }
    let ends = |char: char| char.is_whitespace() || "<>\"'`()[]{}|\\^".contains(char);
    let whole = text.split(ends).next()?;
    let target = whole.trim_end_matches(['.', ',', ';', ':', '!', '?', '*']);
    Some((link(target)?, text.get(target.len()..)?))
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
