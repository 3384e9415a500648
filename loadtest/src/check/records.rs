//! Records, exactly: streamheader first, then a keyframe, then every number once, each record whole. Measures latency.

use std::sync::Arc;

use super::book::Book;
use super::{Complaint, FaultKind, Receipt, Start, Step, complain};
use crate::record::{Kind, Parsed, Record, parse};

#[derive(Debug)]
pub(crate) struct Records {
    start: Start,
    place: Place,
    /// Payload of the streamheader in force.
    header: Option<Vec<u8>>,
    /// What the source has done: then a new run is legal only where it made one, and must begin with its first record.
    book: Option<Arc<Book>>,
}

/// ```text
///  Header ──streamheader──▶ Keyframe ──keyframe──▶ After(n) ──n+1──▶ After(n+1) …
///                              ▲                      │
///                              └──other streamheader──┘
///  (a listener that may start anywhere begins at Any; with a book, who was After goes to First instead of Keyframe)
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Any,
    Header,
    Keyframe,
    First,
    After(u64),
}

impl Records {
    pub(super) fn new(start: Start) -> Self {
        let place = match start {
            Start::Exact => Place::Header,
            Start::Anywhere => Place::Any,
        };
        Self { start, place, header: None, book: None }
    }

    /// Holds new runs against what the source has done.
    pub(super) fn consult(&mut self, book: Option<Arc<Book>>) {
        self.book = book;
    }

    pub(super) fn step(&mut self, bytes: &[u8], receipt: &mut Receipt<'_>) -> Result<Step, Complaint> {
        match parse(bytes) {
            Parsed::Partial => Ok(Step::More),
            Parsed::Torn(why) => complain(FaultKind::Torn, why),
            Parsed::Whole(record, length) => {
                self.accept(&record)?;
                if record.kind != Kind::Streamheader && record.sent >= receipt.live_since {
                    receipt.latency.record(receipt.at.since(record.sent));
                }
                Ok(Step::Take(length as u64))
            }
        }
    }

    fn accept(&mut self, record: &Record<'_>) -> Result<(), Complaint> {
        let found = record.sequence;
        self.place = match (self.place, record.kind) {
            (Place::Keyframe | Place::First, Kind::Streamheader) if self.header.as_deref() == Some(record.payload) => {
                return complain(FaultKind::Repeat, "the streamheader came twice");
            }
            (place, Kind::Streamheader) => {
                let same = self.header.as_deref() == Some(record.payload);
                if let (Some(book), false) = (&self.book, same) {
                    let seen = if let Place::After(last) = place { Some(last) } else { None };
                    book.may_follow(self.header.as_deref().map(|header| (header, seen)), record.payload)?;
                }
                self.header = Some(record.payload.to_vec());
                match place {
                    Place::After(last) if same => Place::After(last),
                    Place::After(_) | Place::First if self.book.is_some() => Place::First,
                    _ if self.start == Start::Anywhere => Place::Any,
                    _ => Place::Keyframe,
                }
            }
            (Place::Header, _) => return complain(FaultKind::Start, format!("record {found} before the streamheader")),
            (Place::First, kind) if found > 0 || kind == Kind::Delta => {
                return complain(FaultKind::Gap, format!("the run begins with record {found}"));
            }
            (Place::Keyframe, Kind::Delta) => {
                return complain(FaultKind::Start, format!("delta record {found} where a keyframe must be"));
            }
            (Place::Any | Place::Keyframe | Place::First, _) => Place::After(found),
            (Place::After(last), _) if found > last + 1 => {
                return complain(FaultKind::Gap, format!("{} records missing after {last}", found - last - 1));
            }
            (Place::After(last), _) if found <= last => {
                return complain(FaultKind::Repeat, format!("record {found} after {last}"));
            }
            (Place::After(_), _) => Place::After(found),
        };
        Ok(())
    }
}

pub(super) fn begins(bytes: &[u8]) -> Option<bool> {
    match parse(bytes) {
        Parsed::Whole(..) => Some(true),
        Parsed::Partial => None,
        Parsed::Torn(_) => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::book::Book;
    use super::super::testing::{kind_of, verdict};
    use super::super::{FaultKind, Format, Start};
    use crate::clock::Nanos;
    use crate::record::{Kind, Record};

    /// A stream as a picture: `H`/`I` streamheaders of two runs, `K3` keyframe 3, `d4` delta 4.
    fn stream(picture: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for word in picture.split_whitespace() {
            let (letter, number) = word.split_at(1);
            let sequence = number.parse().unwrap_or(0);
            let (kind, payload) = match letter {
                "K" => (Kind::Keyframe, "x"),
                "d" => (Kind::Delta, "yy"),
                header => (Kind::Streamheader, header),
            };
            Record { kind, sequence, sent: Nanos(1), payload: payload.as_bytes() }.encode(&mut out);
        }
        out
    }

    #[test]
    fn an_exact_listener_gets_header_then_keyframe_then_every_number_once() {
        use FaultKind::{Gap, Repeat, Start as S};
        for (picture, want) in [
            ("H K3 d4 d5 K6", None),
            ("K3 d4", Some(S)),
            ("H d4 d5", Some(S)),
            ("H K3 d5", Some(Gap)),
            ("H K3 d4 d4", Some(Repeat)),
            ("H K3 d4 d3", Some(Repeat)),
            ("H H K3", Some(Repeat)),
            ("H K3 H d4", None),
            ("H K3 I K0 d1", None),
            ("H K3 I d1", Some(S)),
        ] {
            assert_eq!(kind_of(verdict(Format::Records, Start::Exact, &stream(picture))), want, "{picture}");
        }
    }

    #[test]
    fn a_listener_that_starts_anywhere_finds_its_place_and_is_exact_from_there() {
        let whole = stream("H K3 d4 d5 d6");
        for cut in 1..whole.len() / 2 {
            assert!(verdict(Format::Records, Start::Anywhere, &whole[cut..]).is_ok(), "{cut}");
        }
        assert_eq!(kind_of(verdict(Format::Records, Start::Anywhere, &stream("d4 d6")[1..])), None);
        assert_eq!(kind_of(verdict(Format::Records, Start::Anywhere, &stream("H d4 d5"))), None);
        assert_eq!(kind_of(verdict(Format::Records, Start::Anywhere, &stream("d4 d6"))), Some(FaultKind::Gap));
    }

    #[test]
    fn with_a_book_a_new_run_is_legal_where_the_source_made_one_and_nowhere_else() {
        use FaultKind::{Gap, Repeat, Torn};
        let book = Arc::new(Book::default());
        book.begin(b"A");
        book.ended_in_order(2);
        book.begin(b"B");
        book.begin(b"C");
        for (picture, want) in [
            ("A K0 d1 B K0 d1 C K0", None),
            ("A K0 d1 B K0 d1 C d1", Some(Gap)),
            ("A K0 d1 C K0", None),
            ("A K0 B K0", Some(Gap)),
            ("A K0 d1 B K1", Some(Gap)),
            ("A K0 d1 B C K0", None),
            ("A K0 d1 B B K0", Some(Repeat)),
            ("A K0 d1 X K0", Some(Torn)),
            ("B K7 d8 A K0", Some(Repeat)),
            ("A B K3", None), // has just come: where in the run it begins is the server's choice
        ] {
            let mut checker = super::super::Checker::new(Format::Records, Start::Exact).with_book(Some(book.clone()));
            let mut latency = crate::stats::Histogram::default();
            let mut receipt = super::super::Receipt { at: Nanos(10), live_since: Nanos(0), latency: &mut latency };
            let got = checker.feed(&stream(picture), &mut receipt).err().map(|fault| fault.kind);
            assert_eq!(got, want, "{picture}");
        }
    }

    #[test]
    fn a_torn_record_is_noticed() {
        let mut bytes = stream("H K3 d4");
        bytes.extend_from_slice(&stream("d5")[..20]);
        bytes.extend_from_slice(&stream("d6 d7"));
        assert_eq!(kind_of(verdict(Format::Records, Start::Exact, &bytes)), Some(FaultKind::Torn));
    }
}
