"""Payment providers: what each needs to be asked, behind one small interface."""
