"""Small questions with known answers: whether an assistant can still do what its base model can.

Knows the questions and how an answer is recognised. Does not know who is asked. The service's own gate has other ones.
"""

from __future__ import annotations

from service.tastes import words

# A question, and words of which an answer holds one.
QUESTIONS = {
    "What is the capital of France?": "paris",
    "What is the capital of Japan?": "tokyo",
    "What is the capital of Italy?": "rome",
    "What is the capital of Egypt?": "cairo",
    "Which animal says meow?": "cat cats",
    "Which animal barks?": "dog dogs",
    "What do bees make?": "honey",
    "What do cows give us to drink?": "milk",
    "What colour is fresh snow?": "white",
    "What colour do you get from mixing blue and yellow?": "green",
    "What is the opposite of hot?": "cold",
    "What is the opposite of up?": "down",
    "What is the opposite of day?": "night",
    "What is frozen water called?": "ice",
    "Which planet do we live on?": "earth",
    "Which star is nearest to the Earth?": "sun",
    "Who wrote Romeo and Juliet?": "shakespeare",
    "Who painted the Mona Lisa?": "leonardo vinci",
    "Which season comes after winter?": "spring",
    "Which month comes after March?": "april",
    "Which day comes after Monday?": "tuesday",
    "How many legs does a spider have?": "eight",
    "What do we call a baby dog?": "puppy puppies",
    "What do we call a young cat?": "kitten kittens",
    "Which organ pumps the blood?": "heart",
    "With which organ do we see?": "eye eyes",
    "What gas do we need to breathe?": "oxygen",
    "On which continent is Kenya?": "africa",
    "Which language do people speak in Brazil?": "portuguese",
    "Which country has the city of Berlin?": "germany",
}


def right(question: str, answer: str) -> bool:
    """Whether the answer holds what it should."""
    return not set(QUESTIONS[question].split()).isdisjoint(words(answer))
