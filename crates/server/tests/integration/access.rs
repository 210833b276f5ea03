//! People, sessions, invitations, tokens.

mod pages;
mod people;
mod race;
mod sessions;
mod tokens;
