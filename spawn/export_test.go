package spawn

// Nonce is the secret of an identity.
func (id Identity) Nonce() [16]byte { return id.nonce }
