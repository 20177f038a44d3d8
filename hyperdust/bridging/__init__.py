"""What a person does who brings bitcoin in, or takes it out: addresses, keys, payments, following, taking back."""
