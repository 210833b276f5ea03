//! The layout around every page, and how a page becomes a response.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};

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
#[derive(Clone, Copy)]
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
pub struct Notice {
    pub kind: NoticeKind,
    /// The sentence.
    pub text: String,
}

impl Notice {
    pub fn success(text: impl Into<String>) -> Self {
        Self { kind: NoticeKind::Success, text: text.into() }
    }

    pub fn error(text: impl Into<String>) -> Self {
        Self { kind: NoticeKind::Error, text: text.into() }
    }

    pub fn info(text: impl Into<String>) -> Self {
        Self { kind: NoticeKind::Info, text: text.into() }
    }
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
            notice: None,
        }
    }

    /// The same layout with a sentence.
    #[must_use]
    pub fn with_notice(mut self, notice: Option<Notice>) -> Self {
        self.notice = notice;
        self
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

impl<T: Template> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        match self.0.render() {
            Ok(body) => Html(body).into_response(),
            Err(error) => PageError(ApiError::internal(&error)).into_response(),
        }
    }
}
