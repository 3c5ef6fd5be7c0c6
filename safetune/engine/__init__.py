"""The only room that orders side effects: survey, plan, train, evaluate, gate, settle, roll back."""
