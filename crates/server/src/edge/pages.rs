//! The layout around every page, and how a page becomes a response.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::{ApiError, PageCaller, PageError};

/// Which face a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// The member's.
    Me,
    /// The operator's.
    Admin,
    /// Nobody's: sign-in, set-up, errors.
    Public,
}

/// How a notice looks.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub enum NoticeKind {
    Success,
    Error,
    Info,
}

impl NoticeKind {
    /// Its word in the style sheet.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "good",
            Self::Error => "bad",
            Self::Info => "info",
        }
    }
}

/// One sentence above a page's content.
#[derive(Clone, Serialize, Deserialize)]
pub struct Notice {
    pub kind: NoticeKind,
    /// The sentence.
    pub text: String,
    /// What to do next, and the page for it.
    pub link: Option<(String, String)>,
}

impl Notice {
    pub fn success(text: impl Into<String>) -> Self {
        Self::new(NoticeKind::Success, text.into())
    }

    pub fn error(text: impl Into<String>) -> Self {
        Self::new(NoticeKind::Error, text.into())
    }

    pub fn info(text: impl Into<String>) -> Self {
        Self::new(NoticeKind::Info, text.into())
    }

    const fn new(kind: NoticeKind, text: String) -> Self {
        Self { kind, text, link: None }
    }

    /// The same with a link to what to do next.
    #[must_use]
    pub fn with_link(self, label: &str, href: String) -> Self {
        Self { link: Some((label.to_owned(), href)), ..self }
    }
}

/// A secret that was just created, on the one page that shows it.
#[derive(Clone, Serialize, Deserialize)]
pub struct NewSecret {
    /// What it is, like `Signing secret`.
    pub label: String,
    /// The secret itself.
    pub value: String,
    /// What to do with it.
    pub help: String,
    /// The page to go on to once it is stored.
    pub next: String,
}

/// What `layout.html` draws around a page.
pub struct Layout {
    /// The page's title.
    pub title: String,
    pub area: Area,
    /// The key of its entry in the navigation.
    pub active: &'static str,
    /// The person's name.
    pub user_name: String,
    /// The tenant's name.
    pub tenant_name: String,
    /// Whether to offer the operator's area.
    pub is_operator: bool,
    /// The token for forms.
    pub csrf: String,
    /// A sentence about what just happened.
    pub notice: Option<Notice>,
    /// A secret that was just created.
    pub secret: Option<NewSecret>,
}

impl Layout {
    /// A page outside both areas.
    pub fn public(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            area: Area::Public,
            active: "",
            user_name: String::new(),
            tenant_name: String::new(),
            is_operator: false,
            csrf: String::new(),
            notice: None,
            secret: None,
        }
    }

    /// A page of the member's area.
    pub fn me(caller: &PageCaller, title: &str, active: &'static str) -> Self {
        Self::of(caller, title, Area::Me, active)
    }

    /// A page of the operator's area.
    pub fn admin(caller: &PageCaller, title: &str, active: &'static str) -> Self {
        Self::of(caller, title, Area::Admin, active)
    }

    fn of(caller: &PageCaller, title: &str, area: Area, active: &'static str) -> Self {
        Self {
            title: title.to_owned(),
            area,
            active,
            user_name: caller.user_name.clone(),
            tenant_name: caller.tenant_name.clone(),
            is_operator: caller.is_operator(),
            csrf: caller.csrf.clone(),
            notice: caller.flash.notice.clone(),
            secret: caller.flash.secret.clone(),
        }
    }

    /// The same layout with this sentence, if there is one.
    #[must_use]
    pub fn with_notice(self, notice: Option<Notice>) -> Self {
        Self { notice: notice.or(self.notice), ..self }
    }

    /// Whether this is the member's area.
    pub fn is_me(&self) -> bool {
        self.area == Area::Me
    }

    /// Whether this is the operator's area.
    pub fn is_admin(&self) -> bool {
        self.area == Area::Admin
    }
}

/// A template as an answer.
pub struct Page<T>(pub T);

impl<T: Template + Send + 'static> Page<T> {
    /// The page as a response, rendered on a thread for blocking work: for pages that show much of what others wrote.
    pub async fn render_off_worker(self) -> Response {
        match tokio::task::spawn_blocking(move || self.into_response()).await {
            Ok(response) => response,
            Err(error) => PageError(ApiError::internal(&error)).into_response(),
        }
    }
}

impl<T: Template> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        match self.0.render() {
            Ok(body) => Html(body).into_response(),
            Err(error) => PageError(ApiError::internal(&error)).into_response(),
        }
    }
}
