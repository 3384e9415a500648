//! Launch strings that GStreamer's parser calls a syntax error: it does not say where, so here is who looks.
//!
//! Deliberately absent: the grammar. What can be read, the parser is asked.

/// How many beginnings of a launch string are tried.
const TRIES_MOST: usize = 200;
/// How much of a launch string is repeated.
const SHOWN_CHARS: usize = 40;

/// What is wrong with a launch string that the parser cannot read; `understood` asks it.
pub(super) fn fault(text: &str, understood: &dyn Fn(&str) -> bool) -> String {
    unclosed(text).or_else(|| empty_part(text)).unwrap_or_else(|| not_understood(text, understood))
}

/// Each character of a text with its place, and whether it stands outside of quotes.
fn marked(text: &str) -> impl Iterator<Item = (usize, char, bool)> {
    let (mut quoted, mut escaped) = (false, false);
    text.char_indices().map(move |(at, c)| {
        let plain = !quoted && !escaped && c != '"';
        if c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = c == '\\' && !escaped;
        (at, c, plain)
    })
}

/// A quote or bracket without its other half.
fn unclosed(text: &str) -> Option<String> {
    let character = |at: usize| text[..at].chars().count() + 1;
    let (mut open, mut quote, mut escaped) = (Vec::new(), None, false);
    for (at, c, plain) in marked(text) {
        match c {
            '"' if !escaped => quote = if quote.is_none() { Some(at) } else { None },
            '(' if plain => open.push(at),
            ')' if plain && open.pop().is_none() => return Some(format!("the ) at character {} closes nothing", character(at))),
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    let at = quote.or_else(|| open.pop())?;
    Some(format!("the {} at character {}, part {}, is not closed", &text[at..=at], character(at), part(text, at)))
}

/// The number of the part, between exclamation marks, in which a place is.
fn part(text: &str, place: usize) -> usize {
    1 + marked(&text[..place]).filter(|(_, c, plain)| *plain && *c == '!').count()
}

/// Nothing where an element belongs.
fn empty_part(text: &str) -> Option<String> {
    let marks: Vec<_> = marked(text).filter(|(_, c, plain)| *plain && *c == '!').map(|(at, ..)| at).collect();
    let (first, last) = (*marks.first()?, *marks.last()?);
    if text[..first].trim().is_empty() {
        return Some("it begins with !, and an element belongs before that".into());
    }
    if text[last + 1..].trim().is_empty() {
        return Some("it ends with !, and flumen appends its own sink: leave the last ! out".into());
    }
    let empty = marks.windows(2).position(|pair| text[pair[0] + 1..pair[1]].trim().is_empty())?;
    Some(format!("part {} is empty: there is no element between two !", empty + 2))
}

/// Where the longest beginning that can be read ends.
fn not_understood(text: &str, understood: &dyn Fn(&str) -> bool) -> String {
    let ends: Vec<_> = marked(text).filter(|(_, c, plain)| *plain && c.is_whitespace()).map(|(at, ..)| at).collect();
    let read = ends.iter().rev().take(TRIES_MOST).find(|&&end| understood(&text[..end])).copied().unwrap_or(0);
    let rest = text[read..].trim_start();
    let at = text.len() - rest.len();
    let shown: String = rest.chars().take(SHOWN_CHARS).collect();
    let more = if shown.len() < rest.len() { "…" } else { "" };
    format!("it can be read up to character {}, part {}; what follows cannot: {shown}{more}", text[..at].chars().count(), part(text, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_that_cannot_be_read_is_named() {
        let understood = |text: &str| !text.contains(',') && !text.trim_end().ends_with('!');
        for (text, want) in [
            ("! b", "begins with !"),
            ("a !", "ends with !"),
            ("a ! b ! ! c", "part 3 is empty"),
            ("a ! b c=\"! d", "the \" at character 9, part 2, is not closed"),
            ("a ! ( b", "the ( at character 5, part 2, is not closed"),
            ("a ) ! b", "the ) at character 3 closes nothing"),
            ("a c=\"! !\" ! b ,, ! d", "up to character 14, part 2; what follows cannot: ,, ! d"),
            ("ä ! ü ,", "up to character 6, part 2; what follows cannot: ,"),
            (",", "up to character 0, part 1"),
        ] {
            let found = fault(text, &understood);
            assert!(found.contains(want), "{text}: {found}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a!\"() \\\\ü]{0,40}") {
            fault(&text, &|text| text.len() % 3 == 0);
        }
    }
}
