//! What stands for a person's browser in the demonstration: cookies per origin, the page's CSRF token, and redirects
//! followed by hand so that each hop can be looked at.

use std::collections::BTreeMap;

use serde_json::Value;
use url::{Url, form_urlencoded};

use super::loopback::{Error, Reply, exchange};

/// A browser with its cookies.
#[derive(Default)]
pub struct Browser {
    cookies: BTreeMap<(String, String), String>,
    /// The session's token for unsafe requests; sent once it is known.
    pub csrf: Option<String>,
}

impl Browser {
    /// Opens a page or reads a resource.
    pub async fn get(&mut self, url: &Url) -> Result<Reply, Error> {
        self.send("GET", url, "", Vec::new()).await
    }

    /// Sends a form.
    pub async fn form(&mut self, url: &Url, fields: &[(&str, &str)]) -> Result<Reply, Error> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.send("POST", url, "application/x-www-form-urlencoded", body.into_bytes()).await
    }

    /// Sends JSON, as the script of a page would.
    pub async fn json(&mut self, method: &str, url: &Url, body: &Value) -> Result<Reply, Error> {
        self.send(method, url, "application/json", body.to_string().into_bytes()).await
    }

    /// Sends without a body.
    pub async fn delete(&mut self, url: &Url) -> Result<Reply, Error> {
        self.send("DELETE", url, "", Vec::new()).await
    }

    async fn send(&mut self, method: &str, url: &Url, kind: &str, body: Vec<u8>) -> Result<Reply, Error> {
        let origin = url.origin().ascii_serialization();
        let cookies: Vec<String> = (self.cookies.iter())
            .filter(|((of, _), _)| *of == origin)
            .map(|((_, name), value)| format!("{name}={value}"))
            .collect();
        let mut headers = vec![("accept", "text/html, application/json".to_owned()), ("cookie", cookies.join("; "))];
        if method != "GET" {
            headers.push(("origin", origin.clone()));
            headers.push(("content-type", kind.to_owned()));
            headers.push(("x-csrf-token", self.csrf.clone().unwrap_or_default()));
        }
        headers.retain(|(_, value)| !value.is_empty());
        let reply = exchange(method, url, &headers, &body).await?;
        for (_, value) in reply.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let pair = value.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                let key = (origin.clone(), name.trim().to_owned());
                if value.is_empty() {
                    self.cookies.remove(&key)
                } else {
                    self.cookies.insert(key, value.to_owned())
                };
            }
        }
        Ok(reply)
    }
}
