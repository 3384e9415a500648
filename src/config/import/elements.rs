//! Elements of Icecast's XML, as this room reads them.

use std::ops::RangeInclusive;

use roxmltree::{Document, Node};

/// An element with its place.
#[derive(Clone, Copy)]
pub(super) struct Element<'d> {
    document: &'d Document<'d>,
    node: Node<'d, 'd>,
    file: &'d str,
}

impl<'d> Element<'d> {
    pub(super) fn new(document: &'d Document<'d>, node: Node<'d, 'd>, file: &'d str) -> Self {
        Self { document, node, file }
    }

    pub(super) fn name(&self) -> &'d str {
        self.node.tag_name().name()
    }

    pub(super) fn line(&self) -> usize {
        self.document.text_pos_at(self.node.range().start).row as usize
    }

    /// `icecast.xml:17: <fileserve>`.
    pub(super) fn place(&self) -> String {
        format!("{}:{}: <{}>", self.file, self.line(), self.name())
    }

    /// Its text, without white space around it.
    pub(super) fn text(&self) -> &'d str {
        self.node.text().unwrap_or_default().trim()
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&'d str> {
        self.node.attribute(name)
    }

    /// The elements in it.
    pub(super) fn children(&self) -> impl Iterator<Item = Self> + use<'d> {
        let (document, file) = (self.document, self.file);
        self.node.children().filter(Node::is_element).map(move |node| Self { document, node, file })
    }

    /// The first element in it with this name.
    pub(super) fn child(&self, name: &str) -> Option<Self> {
        self.children().find(|child| child.name() == name)
    }

    /// The text of the first element in it with one of these names, if it has any.
    pub(super) fn text_of(&self, names: &[&str]) -> Option<&'d str> {
        names.iter().find_map(|name| self.child(name)).map(|child| child.text()).filter(|text| !text.is_empty())
    }

    /// Whether it says yes.
    pub(super) fn flag(&self) -> bool {
        ["1", "true", "yes", "on", "enabled"].contains(&self.text().to_ascii_lowercase().as_str())
    }

    /// A whole number within a range.
    pub(super) fn number(&self, range: RangeInclusive<u64>) -> Option<u64> {
        self.text().parse().ok().filter(|number| range.contains(number))
    }
}
