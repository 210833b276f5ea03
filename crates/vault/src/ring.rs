//! The ring of keys and its text form.
//!
//! One item a line, the words apart by one space; blank lines and lines that begin with `#` are skipped:
//!
//! ```text
//! thinkwork-root-1 <base64 of 32 bytes>
//! thinkwork-key-1 <kek id> <made at, RFC 3339> <base64 of 32 bytes>
//! ```
//!
//! Invariant: a ring has exactly one root and at least one KEK, no two of one id; the last KEK is the active one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thinkwork_primitives::crypto::{hex, random};
use thinkwork_primitives::{Clock, Timestamp};
use zeroize::Zeroizing;

use crate::blob::{BlobKey, KEY_BYTES, Refused};
use crate::root::{KeyBytes, Root, derive, fingerprint};
use crate::{Error, Problem};

/// What a key's line begins with.
const KEY_WORD: &str = "thinkwork-key-1";

/// What the root's line begins with.
const ROOT_WORD: &str = "thinkwork-root-1";

/// Longest KEK id: fits the column that each ciphertext names its KEK in.
const KEK_ID_BYTES_MAX: usize = 64;

/// Room for one decoded key and the decoder's rounding up, so that the buffer never grows and leaves a copy behind.
const DECODE_BYTES_MAX: usize = 64;

const HEADER: &str = "# ThinkWork key file. Whoever has it and the database can read every stored credential.\n\
                      # Keep a copy of it apart from the backups of the data: without it nothing opens.\n";

/// One KEK, ready for use.
pub(crate) struct Kek {
    pub(crate) id: String,
    pub(crate) wrap: BlobKey,
    pub(crate) fingerprint: String,
}

/// All keys of one file.
pub(crate) struct Ring {
    pub(crate) root: Root,
    pub(crate) active: Kek,
    pub(crate) older: Vec<Kek>,
}

impl Ring {
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let mut root = None;
        let mut keks: Vec<Kek> = Vec::new();
        for (line, item) in items(text) {
            let at = |reason| Problem::Line { line, reason };
            match item.map_err(at)? {
                Item::Root(_) if root.is_some() => return Err(at("is a second thinkwork-root-1 line")),
                Item::Root(bytes) => root = Some(Root::new(&bytes).map_err(|Refused| at(UNUSABLE))?),
                Item::Key(id, _) if keks.iter().any(|kek| kek.id == id) => {
                    return Err(at("repeats the id of an earlier key"));
                }
                Item::Key(id, bytes) => keks.push(Kek::new(id, &bytes).map_err(|Refused| at(UNUSABLE))?),
                Item::Nothing => {}
            }
        }
        let active = keks.pop().ok_or(Problem::NoKey)?;
        Ok(Self { root: root.ok_or(Problem::NoRoot)?, active, older: keks })
    }

    pub(crate) fn find(&self, kek_id: &str) -> Option<&Kek> {
        self.keks().find(|kek| kek.id == kek_id)
    }

    /// Oldest first, the active one last.
    pub(crate) fn keks(&self) -> impl Iterator<Item = &Kek> {
        self.older.iter().chain(std::iter::once(&self.active))
    }
}

impl Kek {
    fn new(id: &str, bytes: &[u8; KEY_BYTES]) -> Result<Self, Refused> {
        // Wrapping and fingerprint each have a derived key of their own, so the fingerprint says nothing of the wrap.
        let wrap = BlobKey::new(&*derive(bytes, b"thinkwork-wrap-1")?)?;
        Ok(Self { id: id.to_owned(), wrap, fingerprint: fingerprint(bytes, id)? })
    }
}

const UNUSABLE: &str = "holds a key that the cipher refuses";

enum Item<'text> {
    Root(KeyBytes),
    Key(&'text str, KeyBytes),
    Nothing,
}

/// Each line of the text with its number, counted from one.
fn items(text: &str) -> impl Iterator<Item = (usize, Result<Item<'_>, &'static str>)> {
    text.lines().zip(1_usize..).map(|(line, number)| (number, item(line)))
}

fn item(line: &str) -> Result<Item<'_>, &'static str> {
    if line.trim().is_empty() || line.starts_with('#') {
        return Ok(Item::Nothing);
    }
    let mut words = line.split(' ');
    match (words.next(), words.next(), words.next(), words.next(), words.next()) {
        (Some(ROOT_WORD), Some(bytes), None, None, None) => decode(bytes).map(Item::Root),
        (Some(KEY_WORD), Some(id), Some(made_at), Some(bytes), None) => {
            if !is_kek_id(id) {
                return Err("holds no valid key id");
            }
            Timestamp::parse(made_at).ok_or("holds no valid time")?;
            decode(bytes).map(|bytes| Item::Key(id, bytes))
        }
        (Some(ROOT_WORD | KEY_WORD), ..) => Err("has too few or too many words"),
        _ => Err("is of no known kind; it may come from a newer release"),
    }
}

fn decode(text: &str) -> Result<KeyBytes, &'static str> {
    const REFUSED: &str = "does not end in 32 bytes of base64";
    let mut room = Zeroizing::new([0_u8; DECODE_BYTES_MAX]);
    let length = STANDARD.decode_slice(text, &mut *room).map_err(|_| REFUSED)?;
    let (bytes, _) = room.split_first_chunk::<KEY_BYTES>().filter(|_| length == KEY_BYTES).ok_or(REFUSED)?;
    Ok(Zeroizing::new(*bytes))
}

/// Whether the text has the form of a KEK id; what has not is never quoted in an error.
pub(crate) fn is_kek_id(text: &str) -> bool {
    (1..=KEK_ID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b':' | b'/' | b'.'))
}

/// The name as an error may show it.
pub(crate) fn shown_kek_id(text: &str) -> String {
    if is_kek_id(text) { text.to_owned() } else { "(not a key id)".to_owned() }
}

/// The text of a new key file: a header, a fresh root and a fresh key.
pub(crate) fn fresh_text() -> Result<Zeroizing<String>, Error> {
    let (_, key_line) = fresh_key_line()?;
    let root = encode_random()?;
    Ok(joined(&[HEADER, ROOT_WORD, " ", &root, "\n", &key_line]))
}

/// The text with one more key, which is then the active one, and that key's id.
pub(crate) fn text_with_key(text: &str) -> Result<(String, Zeroizing<String>), Error> {
    let (id, key_line) = fresh_key_line()?;
    let gap = if text.ends_with('\n') { "" } else { "\n" };
    Ok((id, joined(&[text, gap, &key_line])))
}

/// The text without the keys that `goes` names; all other lines stay as they are.
pub(crate) fn text_without(text: &str, goes: impl Fn(&str) -> bool) -> Zeroizing<String> {
    let stays = |line: &&str| !matches!(item(line.trim_end()), Ok(Item::Key(id, _)) if goes(id));
    joined(&text.split_inclusive('\n').filter(stays).collect::<Vec<_>>())
}

fn fresh_key_line() -> Result<(String, Zeroizing<String>), Error> {
    let id = format!("kek_{}", hex(&random::<8>()?));
    let made_at = Clock::system().now().to_string();
    let bytes = encode_random()?;
    let line = joined(&[KEY_WORD, " ", &id, " ", &made_at, " ", &bytes, "\n"]);
    Ok((id, line))
}

fn encode_random() -> Result<Zeroizing<String>, Error> {
    let bytes = Zeroizing::new(random::<KEY_BYTES>()?);
    Ok(Zeroizing::new(STANDARD.encode(bytes.as_slice())))
}

/// Joins into room made beforehand, so that no copy of a key is left by growing.
fn joined(parts: &[&str]) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum()));
    parts.iter().for_each(|part| out.push_str(part));
    out
}
