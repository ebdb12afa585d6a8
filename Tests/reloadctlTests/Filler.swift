// filler
