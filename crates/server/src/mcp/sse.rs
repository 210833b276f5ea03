//! Reads a stream of server-sent events (WHATWG HTML section 9.2) from bytes that come in pieces.
//!
//! Invariants: each byte is looked at once, however the stream is cut; no event grows past [`EVENT_BYTES_MAX`].

use thinkwork_primitives::limits;

/// The largest line and the largest event: what an answer that is no stream may hold.
const EVENT_BYTES_MAX: usize = limits::UPSTREAM_BODY_BYTES_MAX;

/// One event of a stream is longer than any answer may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Takes bytes, gives the data of whole events.
#[derive(Default)]
pub(super) struct Events {
    /// The beginning of a line; no line ends in it.
    held: Vec<u8>,
    data: String,
}

impl Events {
    /// Takes the next piece; the data of every event that it completes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, TooLong> {
        let mut events = Vec::new();
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            self.held.extend_from_slice(piece);
            if self.held.len().saturating_add(self.data.len()) > EVENT_BYTES_MAX {
                return Err(TooLong);
            }
            // Behind the last piece no line has ended yet.
            if pieces.peek().is_some() {
                let line = std::mem::take(&mut self.held);
                self.line(line.strip_suffix(b"\r").unwrap_or(&line), &mut events);
            }
        }
        Ok(events)
    }

    /// A whole line without its end: LF or CRLF. A bare CR, which the standard also allows, no server sends.
    fn line(&mut self, line: &[u8], events: &mut Vec<String>) {
        if !line.is_empty() {
            self.field(&String::from_utf8_lossy(line));
        } else if !self.data.is_empty() {
            events.push(std::mem::take(&mut self.data));
        }
    }

    fn field(&mut self, line: &str) {
        let line = line.strip_prefix('\u{feff}').unwrap_or(line);
        let Some(value) = line.strip_prefix("data:") else { return };
        if !self.data.is_empty() {
            self.data.push('\n');
        }
        self.data.push_str(value.strip_prefix(' ').unwrap_or(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_the_stream_is_cut() {
        let stream =
            ": hello\r\nid: 1\r\ndata:\r\n\r\nevent: message\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\ndata:x\n\ndata: half";
        for size in 1..stream.len() {
            let mut events = Events::default();
            let all: Vec<String> =
                stream.as_bytes().chunks(size).flat_map(|piece| events.push(piece).unwrap()).collect();
            assert_eq!(all, ["{\"a\":\n1}", "x"], "cut every {size}");
        }
    }

    #[test]
    fn many_short_lines_and_one_long_line_are_read_in_one_pass() {
        // Anything that looks at a byte more than once takes minutes here.
        let mut events = Events::default();
        assert_eq!(events.push(&vec![b'\n'; EVENT_BYTES_MAX]), Ok(Vec::new()));
        for piece in std::iter::once(&b"data:"[..]).chain(std::iter::repeat_n(&b"x"[..], EVENT_BYTES_MAX / 2)) {
            assert_eq!(events.push(piece), Ok(Vec::new()));
        }
        assert_eq!(events.push(b"\n\n").unwrap().concat().len(), EVENT_BYTES_MAX / 2);
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut line = Events::default();
        assert_eq!(line.push(&vec![b'x'; EVENT_BYTES_MAX + 1]), Err(TooLong));
        let (mut event, lines) = (Events::default(), "data:xxxxxxxxxxxxxxxx\n".repeat(EVENT_BYTES_MAX / 16));
        assert_eq!(event.push(lines.as_bytes()), Err(TooLong));
    }
}
