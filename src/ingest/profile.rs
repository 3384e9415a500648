//! What a stream's sender says of it, in the fields of Icecast or of SHOUTcast.

use crate::mount::Profile;

/// The longest text that is kept.
const TEXT_MOST: usize = 255;

/// Reads a profile; `field` knows the value of a field by its name in lower case.
pub(super) fn profile<'a>(field: impl Fn(&str) -> Option<&'a str>) -> Profile {
    let text = |name: &str| {
        let value = field(&format!("ice-{name}")).or_else(|| field(&format!("icy-{name}")))?;
        let tame: String = value.chars().filter(|c| !c.is_control()).take(TEXT_MOST).collect();
        (!tame.trim().is_empty()).then(|| tame.trim().to_owned())
    };
    let web = |url: &String| url.starts_with("http://") || url.starts_with("https://");
    Profile {
        name: text("name"),
        description: text("description"),
        genre: text("genre"),
        url: text("url").filter(web),
        public: false,
        hidden: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_from_the_fields_of_either_server() {
        let fields = [
            ("ice-name", "A \u{7}radio"),
            ("icy-name", "not this"),
            ("icy-genre", "jazz"),
            ("ice-url", "javascript:alert(1)"),
            ("ice-description", " "),
        ];
        let found = profile(|name| fields.iter().find(|(field, _)| *field == name).map(|(_, value)| *value));
        assert_eq!(found, Profile { name: Some("A radio".into()), genre: Some("jazz".into()), ..Profile::default() });
    }
}
