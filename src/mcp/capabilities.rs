//! What a client declares that it can do, as far as the gateway depends on it.

/// A capability of a client (`ClientCapabilities` of the schema).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Capability {
    /// Asks its user to fill in a form: `elicitation.form`, or `elicitation` without any mode.
    ElicitationForm = 1,
    /// Asks its user to open a URL: `elicitation.url`.
    ElicitationUrl = 1 << 1,
    /// Lets the server use its model: `sampling`.
    Sampling = 1 << 2,
    /// Tells the server about directories: `roots`.
    Roots = 1 << 3,
    /// Runs requests of the server as tasks: `tasks`.
    Tasks = 1 << 4,
}

impl Capability {
    const ALL: [Self; 5] = [Self::ElicitationForm, Self::ElicitationUrl, Self::Sampling, Self::Roots, Self::Tasks];

    const fn bit(self) -> u8 {
        self as u8
    }
}

/// A set of capabilities. What a client declares in another form than an object, it does not declare.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ClientCapabilities(u8);

impl ClientCapabilities {
    /// Whether `capability` was declared.
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    /// The same set with `capability`.
    #[must_use]
    pub const fn with(self, capability: Capability) -> Self {
        Self(self.0 | capability.bit())
    }

    /// The set in one byte, to be kept.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set of [`Self::bits`]; `None` when it has a capability that is not known here.
    pub fn from_bits(bits: u8) -> Option<Self> {
        let known: Self = Capability::ALL.into_iter().filter(|capability| bits & capability.bit() != 0).collect();
        (known.bits() == bits).then_some(known)
    }
}

impl FromIterator<Capability> for ClientCapabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        capabilities.into_iter().fold(Self::default(), Self::with)
    }
}
