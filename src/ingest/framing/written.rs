//! Bytes in a framer's state, written down for another process: as text, a third longer than they are. (As numbers, the way plain data is
//! written, each would be a whole `Value` while the state is made and read.)
//!
//! For `#[serde(with = "written")]`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes, or some of them in whatever holds them.
pub(super) trait Written: Sized {
    /// What is written.
    type Text: Serialize + DeserializeOwned;

    /// Writes it down.
    fn write(&self) -> Self::Text;

    /// Reads it again; `None`: it is something else.
    fn read(text: Self::Text) -> Option<Self>;
}

impl Written for Vec<u8> {
    type Text = String;

    fn write(&self) -> String {
        BASE64_STANDARD.encode(self)
    }

    fn read(text: String) -> Option<Self> {
        BASE64_STANDARD.decode(text).ok()
    }
}

impl Written for Box<[u8]> {
    type Text = String;

    fn write(&self) -> String {
        BASE64_STANDARD.encode(self)
    }

    fn read(text: String) -> Option<Self> {
        Vec::read(text).map(Into::into)
    }
}

impl<T: Written> Written for Option<T> {
    type Text = Option<T::Text>;

    fn write(&self) -> Self::Text {
        self.as_ref().map(T::write)
    }

    fn read(text: Self::Text) -> Option<Self> {
        text.map_or(Some(None), |text| T::read(text).map(Some))
    }
}

impl<T: Written> Written for Vec<T> {
    type Text = Vec<T::Text>;

    fn write(&self) -> Self::Text {
        self.iter().map(T::write).collect()
    }

    fn read(text: Self::Text) -> Option<Self> {
        text.into_iter().map(T::read).collect()
    }
}

pub(super) fn serialize<T: Written, S: Serializer>(bytes: &T, to: S) -> Result<S::Ok, S::Error> {
    bytes.write().serialize(to)
}

pub(super) fn deserialize<'de, T: Written, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    let text = T::Text::deserialize(from)?;
    T::read(text).ok_or_else(|| D::Error::custom("bytes that are not written as they should be"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, from_value, json, to_value};

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct State {
        #[serde(with = "super")]
        plain: Vec<u8>,
        #[serde(with = "super")]
        maybe: Option<Box<[u8]>>,
        #[serde(with = "super")]
        several: Vec<Vec<u8>>,
    }

    proptest! {
        #[test]
        fn bytes_come_out_as_they_went_in_and_take_a_third_more(plain: Vec<u8>, maybe: Option<Vec<u8>>, several: Vec<Vec<u8>>) {
            let bytes = plain.len();
            let state = State { plain, maybe: maybe.map(Into::into), several };
            let value = to_value(&state).expect("plain data");
            prop_assert_eq!(value["plain"].as_str().map(str::len), Some(bytes.div_ceil(3) * 4));
            prop_assert_eq!(from_value::<State>(value).expect("as written"), state);
        }
    }

    #[test]
    fn what_is_written_otherwise_is_refused_and_what_is_missing_is_empty() {
        let read = from_value::<State>;
        assert_eq!(read(json!({})).expect("nothing"), State::default());
        for wrong in [json!({"plain": [1, 2]}), json!({"plain": "!"}), json!({"maybe": 7}), json!({"several": ["AA==", "A"]}), Value::Null]
        {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
