//! `docs/configuration.md` from `default.toml`.
//!
//! The file is read line by line, because its comments are what the reference is about. It has a head of comments, then
//! settings, each with a comment above it, in sections.

use super::head;
use crate::failure::Failure;

const SOURCE: &str = "crates/server/src/default.toml";

/// One setting as the file has it.
#[derive(PartialEq, Eq, Debug)]
struct Setting {
    /// With its section, like `outbound.ports`.
    key: String,
    default: String,
    comment: Vec<String>,
}

/// The reference. `help` is what `thinkwork serve --help` prints: it says which settings have a flag.
pub(crate) fn configuration(defaults: &str, help: &str) -> Result<String, Failure> {
    let (introduction, settings) = read(defaults)?;
    let mut out = head("Configuration", SOURCE);
    out.push_str(&introduction.join("\n"));
    out.push_str(
        "\n\nA setting of a section is written below its header in the file, like `ports` below `[outbound]`. A list in the\n\
         environment is separated by commas.\n\n| Setting | Type | Default |\n|---|---|---|\n",
    );
    for setting in &settings {
        out.push_str(&format!(
            "| [`{}`](#{}) | {} | `{}` |\n",
            setting.key,
            setting.key.replace('.', ""),
            kind(&setting.default),
            setting.default
        ));
    }
    for setting in &settings {
        let variable = format!("THINKWORK_{}", setting.key.to_uppercase().replace('.', "__"));
        let flag = format!("--{}", setting.key.replace('_', "-"));
        let flag = if help.split_whitespace().any(|word| word == flag) {
            format!("- Flag: `{flag}`\n")
        } else {
            String::new()
        };
        out.push_str(&format!(
            "\n## `{}`\n\n{}\n\n- Type: {}\n- Default: `{}`\n- Environment variable: `{variable}`\n{flag}",
            setting.key,
            setting.comment.join("\n"),
            kind(&setting.default),
            setting.default,
        ));
    }
    Ok(out)
}

/// The comment at the head of the file, and the settings in their order.
fn read(text: &str) -> Result<(Vec<String>, Vec<Setting>), Failure> {
    let mut introduction = None;
    let mut settings = Vec::new();
    let mut section = String::new();
    let mut comment = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(words) = line.strip_prefix('#') {
            comment.push(words.trim().to_owned());
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((key, default)) = line.split_once('=') {
            let key = format!("{section}{}", key.trim());
            if comment.is_empty() {
                return Err(Failure::new(format!("{SOURCE}: the setting `{key}` has no comment above it")));
            }
            let comment = std::mem::take(&mut comment);
            settings.push(Setting { key, default: default.trim().to_owned(), comment });
        } else if !line.is_empty() {
            return Err(Failure::new(format!("{SOURCE}: line {} is no comment, section or setting", index + 1)));
        } else if introduction.is_none() {
            introduction = Some(std::mem::take(&mut comment));
        }
    }
    Ok((introduction.unwrap_or_default(), settings))
}

/// What a setting holds, in the words of the errors about it.
fn kind(default: &str) -> &'static str {
    match default.trim_start_matches('[').chars().next() {
        Some('0'..='9') if default.starts_with('[') => "a list of whole numbers",
        _ if default.starts_with('[') => "a list of texts",
        Some('0'..='9') => "a whole number",
        Some('t' | 'f') => "true or false",
        _ => "text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# Every setting.\n\n# Where it listens,\n# and how.\nlisten = \"127.0.0.1:80\"\n\n[outbound]\n# Ports.\nports = [443]\n\n# More.\nloopback = false\n";

    #[test]
    fn each_setting_has_its_type_default_variable_flag_and_comment() {
        let written = configuration(FILE, "  --listen <ADDR>  Where").unwrap();
        for part in [
            "Every setting.\n\nA setting of",
            "| [`outbound.ports`](#outboundports) | a list of whole numbers | `[443]` |\n",
            "## `listen`\n\nWhere it listens,\nand how.\n\n- Type: text\n- Default: `\"127.0.0.1:80\"`\n\
             - Environment variable: `THINKWORK_LISTEN`\n- Flag: `--listen`\n",
            "- Type: true or false\n- Default: `false`\n- Environment variable: `THINKWORK_OUTBOUND__LOOPBACK`\n",
        ] {
            assert!(written.contains(part), "{part:?} in {written}");
        }
        assert_eq!(written.matches("- Flag:").count(), 1);
    }

    #[test]
    fn a_setting_without_a_comment_is_refused() {
        let refused = configuration("# Head.\n\nlisten = 1\n", "").unwrap_err().to_string();
        assert!(refused.contains("`listen` has no comment"), "{refused}");
    }
}
