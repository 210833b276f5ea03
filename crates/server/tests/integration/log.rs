//! What the server logs, as it is written where no person looks: JSON lines.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

/// Everything that is logged on this thread, down to TRACE.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    pub fn begin() -> (Self, tracing::subscriber::DefaultGuard) {
        // As long as there is one subscriber alone, whichever thread comes to an event first decides for all threads
        // whether it is logged, and those of other tests have none.
        static ANOTHER: OnceLock<tracing::Dispatch> = OnceLock::new();
        ANOTHER.get_or_init(|| tracing::Dispatch::new(tracing_subscriber::registry()));
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone());
        let subscriber = subscriber.json().flatten_event(true).with_current_span(false).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    /// The lines of this part of the program.
    pub fn lines(&self, target: &str) -> Vec<Value> {
        let bytes = self.bytes();
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let lines = lines.map(|line| serde_json::from_slice(line).unwrap());
        lines.filter(|line: &Value| line["target"].as_str().unwrap().starts_with(target)).collect()
    }
}
