"""Pretrains the bodies of systems on the texts of prepared data, where no published weights fit the language or can be had."""
