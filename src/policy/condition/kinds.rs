//! Sets of kinds of values: what an expression may turn out to be.

use std::fmt;

/// A set of kinds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Kinds(u16);

impl Kinds {
    pub(super) const NONE: Self = Self(0);
    pub(super) const BOOL: Self = Self(1);
    pub(super) const INT: Self = Self(1 << 1);
    pub(super) const UINT: Self = Self(1 << 2);
    pub(super) const DOUBLE: Self = Self(1 << 3);
    pub(super) const STRING: Self = Self(1 << 4);
    pub(super) const BYTES: Self = Self(1 << 5);
    pub(super) const LIST: Self = Self(1 << 6);
    pub(super) const MAP: Self = Self(1 << 7);
    pub(super) const NULL: Self = Self(1 << 8);
    /// Nothing is known.
    pub(super) const ANY: Self = Self((1 << 9) - 1);
    pub(super) const NUMBER: Self = Self::INT.or(Self::UINT).or(Self::DOUBLE);
    pub(super) const CONTAINER: Self = Self::LIST.or(Self::MAP);
    /// What has a size.
    pub(super) const SIZED: Self = Self::STRING.or(Self::BYTES).or(Self::CONTAINER);
    /// What can be a member's name. Doubles are only ever looked up.
    pub(super) const KEY: Self = Self::BOOL.or(Self::INT).or(Self::UINT).or(Self::STRING);

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a value may be of one of those kinds.
    pub(super) const fn may_be(self, others: Self) -> bool {
        !self.and(others).is_empty()
    }

    /// Whether a value of these kinds may equal one of those.
    pub(super) const fn may_equal(self, other: Self) -> bool {
        self.may_be(other) || (self.may_be(Self::NUMBER) && other.may_be(Self::NUMBER))
    }

    /// Whether a value of these kinds may be put in order with one of those.
    pub(super) const fn may_order(self, other: Self) -> bool {
        const ORDERED: Kinds = Kinds::BOOL.or(Kinds::STRING).or(Kinds::BYTES);
        self.and(other).may_be(ORDERED) || (self.may_be(Self::NUMBER) && other.may_be(Self::NUMBER))
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(Kinds, &str); 9] = [
            (Kinds::BOOL, "bool"),
            (Kinds::INT, "int"),
            (Kinds::UINT, "uint"),
            (Kinds::DOUBLE, "double"),
            (Kinds::STRING, "string"),
            (Kinds::BYTES, "bytes"),
            (Kinds::LIST, "list"),
            (Kinds::MAP, "map"),
            (Kinds::NULL, "null"),
        ];
        if *self == Self::ANY {
            return formatter.write_str("anything");
        }
        let mut separator = "";
        for (_, name) in NAMES.into_iter().filter(|(kind, _)| self.may_be(*kind)) {
            write!(formatter, "{separator}{name}")?;
            separator = " or ";
        }
        Ok(())
    }
}

/// The type of an expression: the kinds that its value may have and, should it be a list, those of the elements.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Type {
    pub(super) kinds: Kinds,
    pub(super) elements: Kinds,
}

impl Type {
    pub(super) const ANY: Self = Self::list_or(Kinds::ANY, Kinds::ANY);

    pub(super) const fn of(kinds: Kinds) -> Self {
        Self::list_or(kinds, Kinds::ANY)
    }

    pub(super) const fn list(elements: Kinds) -> Self {
        Self::list_or(Kinds::LIST, elements)
    }

    const fn list_or(kinds: Kinds, elements: Kinds) -> Self {
        Self { kinds, elements }
    }

    pub(super) const fn or(self, other: Self) -> Self {
        Self { kinds: self.kinds.or(other.kinds), elements: self.elements.or(other.elements) }
    }
}
