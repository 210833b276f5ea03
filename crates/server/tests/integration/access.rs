//! People, sessions, invitations, tokens.

mod flash;
mod pages;
mod people;
mod race;
mod sessions;
mod tokens;
