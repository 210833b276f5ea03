//! People, sessions, invitations, tokens.

mod pages;
mod people;
mod sessions;
mod tokens;
