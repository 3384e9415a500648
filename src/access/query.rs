//! Parameters of a request by which somebody shows who they are.

use percent_encoding::percent_decode_str;

/// The longest value.
const VALUE_MOST: usize = 4096;

/// The value of one parameter, decoded. One that stands there twice is none: whoever reads the other one would be told something else.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    let mut values = query.split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    });
    let value = values.next().filter(|value| value.len() <= VALUE_MOST)?;
    if values.next().is_some() {
        return None;
    }
    let value = value.replace('+', " ");
    let value = percent_decode_str(&value).decode_utf8().ok()?;
    (!value.chars().any(char::is_control)).then(|| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_has_one_value_or_none() {
        for (query, want) in [
            ("a=1", Some("1")),
            ("b=2&a=1", Some("1")),
            ("a=%2Fx+y", Some("/x y")),
            ("a", Some("")),
            ("a=1&a=1", None),
            ("A=1", None),
            ("a=%ff", None),
            ("a=%0a", None),
            ("", None),
        ] {
            assert_eq!(parameter(query, "a").as_deref(), want, "{query}");
        }
        assert_eq!(parameter(&format!("a={}", "x".repeat(5000)), "a"), None);
    }
}
