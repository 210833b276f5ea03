//! Reads a stream of server-sent events (WHATWG HTML section 9.2) from bytes that come in pieces.
//!
//! Invariant: what is held never grows past the stream's own limit of bytes, which `outbound` keeps.

/// Takes bytes, gives the data of whole events.
#[derive(Default)]
pub(super) struct Events {
    held: Vec<u8>,
    data: String,
}

impl Events {
    /// Takes the next piece; the data of every event that it completes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.held.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(line) = self.line() {
            if line.is_empty() {
                if !self.data.is_empty() {
                    events.push(std::mem::take(&mut self.data));
                }
            } else {
                self.field(&line);
            }
        }
        events
    }

    /// The next whole line without its end: LF or CRLF. A bare CR, which the standard also allows, no server sends.
    fn line(&mut self) -> Option<String> {
        let end = self.held.iter().position(|byte| *byte == b'\n')?;
        let rest = self.held.split_off(end.saturating_add(1));
        let mut line = std::mem::replace(&mut self.held, rest);
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(String::from_utf8_lossy(&line).into_owned())
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
            let all: Vec<String> = stream.as_bytes().chunks(size).flat_map(|piece| events.push(piece)).collect();
            assert_eq!(all, ["{\"a\":\n1}", "x"], "cut every {size}");
        }
    }
}
