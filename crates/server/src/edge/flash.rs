//! What a page says once after a form: a notice, and a secret that was just created (Post/Redirect/Get).
//!
//! The answer to a form is a redirect. Its flash travels in a cookie to the page that the redirect names, is shown there
//! and deleted, so that a reload repeats no act and shows no secret again.
//!
//! Invariant: the cookie is sealed, and opens for that page in that session alone, within a minute.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use serde::{Deserialize, Serialize};
use thinkwork_primitives::{Clock, Timestamp, crypto};
use thinkwork_vault::CookieKey;
use zeroize::Zeroizing;

use super::cookies::{SESSION_COOKIE, cookie, set_cookie};
use super::pages::{NewSecret, Notice};

const FLASH_COOKIE: &str = "__Host-tw_flash";
const FLASH_LIFETIME: Duration = Duration::from_secs(60);
/// A browser keeps 4,096 bytes of a cookie, name and attributes included; sealing adds a third.
const NOTICE_CHARS_MAX: usize = 600;

/// What to show once on the page that a redirect leads to.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Flash {
    pub(super) notice: Option<Notice>,
    pub(super) secret: Option<NewSecret>,
}

impl Flash {
    /// A notice that something was done.
    pub fn success(text: impl Into<String>) -> Self {
        Self::notice(Notice::success(text))
    }

    /// A notice. One that is longer than a cookie allows is cut.
    pub fn notice(mut notice: Notice) -> Self {
        if let Some((end, _)) = notice.text.char_indices().nth(NOTICE_CHARS_MAX) {
            notice.text.truncate(end);
            notice.text.push('…');
        }
        Self { notice: Some(notice), secret: None }
    }

    /// A secret that was just created.
    pub const fn secret(secret: NewSecret) -> Self {
        Self { notice: None, secret: Some(secret) }
    }

    /// The same with a notice above the secret.
    #[must_use]
    pub fn with_notice(self, notice: Notice) -> Self {
        Self { secret: self.secret, ..Self::notice(notice) }
    }

    /// The answer to a form: see this page, which shows the flash.
    pub fn redirect(self, page: &str) -> Response {
        (Extension(self), Redirect::to(page)).into_response()
    }
}

/// What is in the cookie.
#[derive(Serialize, Deserialize)]
struct Sealed {
    ends_at: i64,
    flash: Flash,
}

/// Carries a flash from the answer to a form to the page after it.
#[derive(Clone)]
pub struct FlashCookies {
    key: CookieKey,
    clock: Clock,
}

impl FlashCookies {
    pub const fn new(key: CookieKey, clock: Clock) -> Self {
        Self { key, clock }
    }

    fn seal(&self, flash: Flash, session: &str, page: &str) -> Option<String> {
        let ends_at = self.clock.now().plus(FLASH_LIFETIME).micros();
        let plain = Zeroizing::new(serde_json::to_vec(&Sealed { ends_at, flash }).ok()?);
        self.key.seal(&associated(session, page), &plain).ok()
    }

    fn open(&self, request: &Request) -> Option<Flash> {
        let value = cookie(request.headers(), FLASH_COOKIE)?;
        let session = cookie(request.headers(), SESSION_COOKIE)?;
        let plain = self.key.open(&associated(session, request.uri().path()), value)?;
        let Sealed { ends_at, flash } = serde_json::from_slice(&plain).ok()?;
        (self.clock.now() < Timestamp::from_micros(ends_at)).then_some(flash)
    }
}

/// The page and the session that a flash is for.
fn associated(session: &str, page: &str) -> Vec<u8> {
    let mut bytes = crypto::sha256(session.as_bytes()).to_vec();
    bytes.extend_from_slice(page.as_bytes());
    bytes
}

/// The layer around the pages.
pub async fn apply(State(cookies): State<FlashCookies>, mut request: Request, next: Next) -> Response {
    let received = if request.method() == Method::GET { cookies.open(&request) } else { None };
    let is_received = received.is_some();
    if let Some(flash) = received {
        request.extensions_mut().insert(flash);
    }
    let session = cookie(request.headers(), SESSION_COOKIE).map(str::to_owned);
    let mut response = next.run(request).await;
    // A page that failed did not show it.
    if is_received && response.status().is_success() {
        set_cookie(response.headers_mut(), FLASH_COOKIE, "", 0);
    }
    let page = response.headers().get(header::LOCATION).and_then(|page| page.to_str().ok());
    let page = page.and_then(|page| page.split('?').next()).map(str::to_owned);
    let flash = response.extensions_mut().remove::<Flash>();
    if let (Some(flash), Some(session), Some(page)) = (flash, session, page)
        && let Some(value) = cookies.seal(flash, &session, &page)
    {
        set_cookie(response.headers_mut(), FLASH_COOKIE, &value, FLASH_LIFETIME.as_secs());
    }
    response
}
